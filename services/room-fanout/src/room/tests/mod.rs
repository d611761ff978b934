//! Rooms as their receivers see them.

mod client;
mod deadlines;
mod kill;
mod parts;
mod quiet;
mod schedule;
mod sleep;
mod streams;
mod together;
mod told;
mod world;
