//! A flow of one class's messages into rooms, in an open loop: many lines to api, each of which takes the next message,
//! waits until that is due, sends it and hears the answer. Late messages are sent late, and nothing waits for them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context;
use pushmesh_protocol::RoomId;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use super::{digest::stamp, line::Line, tally::Class};
use crate::bench::{latency::Latencies, machine, population, schedule::Schedule};

/// Bytes of a line of chat, and of a message of class normal.
pub const DATA_BYTES: usize = 128;
/// Likes that somebody sends in one request.
pub const LIKES_EACH: u64 = 10;
/// So many people like, in turn: one has at most 20 a second.
const FANS: u64 = 100_000;
/// So many people give, in turn: a ranking shows a thousand.
pub const GIVERS: u64 = 500;
/// How long api may take for an answer.
const WITHIN: Duration = Duration::from_secs(30);
/// Answers of which the first is kept.
const TROUBLE_BYTES: usize = 200;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Flow {
    pub class: Class,
    pub schedule: Schedule,
    pub window: Duration,
    /// In turn.
    pub rooms: Arc<[RoomId]>,
    /// Clients 0 to this one speak, in turn.
    pub speakers: u64,
    pub lines: usize,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Flowed {
    /// Due in the window; likes each count.
    pub offered: u64,
    pub accepted: u64,
    /// Answered with a refusal.
    pub refused: u64,
    /// Not sent before the window was over: all lines waited for answers.
    pub unsent: u64,
    /// Sent, and never answered.
    pub unanswered: u64,
    /// Of what was accepted: the sequence in its stream, and its number in the flow.
    pub sequences: Vec<(u64, u64)>,
    /// How late this process woke up to send.
    pub lag: Latencies,
    pub trouble: Option<String>,
}

/// Who gave what: the value of a flow's gift.
pub fn gift_of(number: u64) -> (u64, u64) {
    (number % GIVERS, 1 + number % 100)
}

struct Shared {
    flow: Flow,
    next: AtomicU64,
    count: u64,
}

impl Flow {
    /// How many messages of a request.
    fn each(&self) -> u64 {
        if self.class == Class::Low { LIKES_EACH } else { 1 }
    }

    pub async fn run(self, api: SocketAddr, token: &str) -> anyhow::Result<Flowed> {
        let lines = self.lines;
        let count = if self.schedule.per_s > 0.0 { self.schedule.count(self.window) } else { 0 };
        let offered = count * self.each();
        let shared = Arc::new(Shared { flow: self, next: AtomicU64::new(0), count });
        let mut tasks = JoinSet::new();
        for _ in 0..lines {
            tasks.spawn(send(shared.clone(), Line::new(api, token)));
        }
        let mut all = Flowed { offered, ..Flowed::default() };
        while let Some(one) = tasks.join_next().await {
            all.add(one.context("a line to api panicked")?);
        }
        Ok(all)
    }

    fn request(&self, number: u64, due: Duration) -> (String, String) {
        let room = &self.rooms[(number % self.rooms.len() as u64) as usize];
        let due_us = due.as_micros() as u64;
        let speaker = population::user(number % self.speakers.max(1));
        match self.class {
            Class::Gift => {
                let (giver, value) = gift_of(number);
                let (key, giver) = (Uuid::now_v7(), population::user(giver));
                let note = stamp(due_us, 0);
                let body = format!(
                    r#"{{"key":"{key}","gift":"rose","count":1,"value":{value},"from":"{giver}","note":"{note}"}}"#
                );
                (format!("/v1/rooms/{room}/gifts"), body)
            }
            Class::Low => {
                let body = format!(r#"{{"from":"fan{}","count":{LIKES_EACH}}}"#, number % FANS);
                (format!("/v1/rooms/{room}/likes"), body)
            }
            Class::High | Class::Normal => {
                let kind = if self.class == Class::High { "chat" } else { "effect" };
                let data = stamp(due_us, DATA_BYTES);
                let body = format!(r#"{{"type":"{kind}","from":"{speaker}","data":"{data}"}}"#);
                (format!("/v1/rooms/{room}/messages"), body)
            }
        }
    }
}

async fn send(shared: Arc<Shared>, mut line: Line) -> Flowed {
    let Shared { flow, next, count } = &*shared;
    let (mut flowed, end) = (Flowed::default(), flow.schedule.start + flow.window);
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= *count {
            return flowed;
        }
        let (due, now) = (flow.schedule.at(number), machine::now());
        if now < due {
            sleep_until(Instant::now() + (due - now)).await;
            flowed.lag.record(machine::now().saturating_sub(due));
        } else if now > end {
            flowed.unsent += flow.each();
            continue;
        }
        let (path, body) = flow.request(number, due);
        let answer = timeout(WITHIN, line.post(&path, &body)).await;
        match answer {
            Ok(Ok(answer)) if answer.is_good() => match flow.class {
                Class::Low => {
                    let accepted = answer.number("accepted").unwrap_or(0);
                    flowed.accepted += accepted;
                    flowed.refused += LIKES_EACH.saturating_sub(accepted);
                }
                _ => {
                    flowed.accepted += 1;
                    flowed.sequences.extend(answer.number("sequence").map(|sequence| (sequence, number)));
                }
            },
            Ok(Ok(answer)) => {
                flowed.refused += flow.each();
                let body = String::from_utf8_lossy(answer.body);
                let said = || format!("{}: {}", answer.status, body.chars().take(TROUBLE_BYTES).collect::<String>());
                flowed.trouble.get_or_insert_with(said);
            }
            Ok(Err(error)) => {
                flowed.unanswered += flow.each();
                flowed.trouble.get_or_insert_with(|| format!("{error:#}"));
            }
            Err(_) => {
                flowed.unanswered += flow.each();
                flowed.trouble.get_or_insert_with(|| format!("no answer within {WITHIN:?}"));
            }
        }
    }
}

impl Flowed {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.sequences.extend(other.sequences);
        self.lag.add(&other.lag.counted());
        self.trouble = self.trouble.take().or(other.trouble);
    }
}
