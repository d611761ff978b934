//! The only owner of async-nats: publish, consume, key-value, provision
