//! The command line: up, serve, demo, replay, token, call, member, tail
