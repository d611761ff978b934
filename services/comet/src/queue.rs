//! A queue bounded by number and by bytes: what waits between two threads costs no more memory than was said.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

/// What an entry costs while it waits, in bytes: what it holds on the heap, and about itself.
pub trait Weigh {
    fn weight(&self) -> usize;
}

/// Too much waits, or nobody takes it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full or closed")]
pub struct Refused;

/// The sending end.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::Sender<T>,
    left: Arc<Semaphore>,
    most: u32,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    left: Arc<Semaphore>,
    most: u32,
}

/// At most so many entries and so many bytes; one entry that is heavier than `bytes` passes alone.
pub fn queue<T: Weigh>(entries: usize, bytes: u32) -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = mpsc::channel(entries);
    let left = Arc::new(Semaphore::new(bytes as usize));
    (Sender { queue: tx, left: left.clone(), most: bytes }, Receiver { queue: rx, left, most: bytes })
}

fn weight<T: Weigh>(entry: &T, most: u32) -> u32 {
    entry.weight().min(most as usize) as u32
}

impl<T: Weigh> Sender<T> {
    /// Never waits.
    pub fn try_send(&self, entry: T) -> Result<(), Refused> {
        let permit = self.left.try_acquire_many(weight(&entry, self.most)).map_err(|_| Refused)?;
        self.queue.try_send(entry).map_err(|_| Refused)?;
        // Its receiver gives it back.
        permit.forget();
        Ok(())
    }

    /// Waits for a place. Refused: closed.
    pub async fn send(&self, entry: T) -> Result<(), Refused> {
        let permit = self.left.acquire_many(weight(&entry, self.most)).await.map_err(|_| Refused)?;
        self.queue.send(entry).await.map_err(|_| Refused)?;
        permit.forget();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), left: self.left.clone(), most: self.most }
    }
}

impl<T: Weigh> Receiver<T> {
    /// `None`: all senders are gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        let entry = self.queue.recv().await?;
        self.left.add_permits(weight(&entry, self.most) as usize);
        Some(entry)
    }

    /// Waits for one and takes up to `limit`; 0: all senders are gone. Cancel safe.
    pub async fn recv_many(&mut self, into: &mut Vec<T>, limit: usize) -> usize {
        let count = self.queue.recv_many(into, limit).await;
        let taken = into[into.len() - count..].iter().map(|entry| weight(entry, self.most) as usize).sum();
        self.left.add_permits(taken);
        count
    }

    /// One that is already here.
    pub fn try_recv(&mut self) -> Option<T> {
        let entry = self.queue.try_recv().ok()?;
        self.left.add_permits(weight(&entry, self.most) as usize);
        Some(entry)
    }
}

impl<T> Drop for Receiver<T> {
    // Whoever waits for bytes would never learn that nobody takes them.
    fn drop(&mut self) {
        self.left.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[tokio::test]
    async fn number_and_bytes_both_have_a_bound_and_what_is_taken_makes_room() {
        let (sender, mut receiver) = queue::<usize>(3, 100);
        assert_eq!([60, 50].map(|bytes| sender.try_send(bytes)), [Ok(()), Err(Refused)]);
        assert_eq!(receiver.recv().await, Some(60));
        assert_eq!([1, 1, 1, 1].map(|bytes| sender.try_send(bytes)), [Ok(()), Ok(()), Ok(()), Err(Refused)]);
        let mut taken = Vec::new();
        assert_eq!(receiver.recv_many(&mut taken, 10).await, 3);
        assert_eq!(sender.try_send(1_000), Ok(()), "alone it passes");
        assert_eq!(sender.try_send(1), Err(Refused));
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Some(1_000), None));
        assert_eq!(sender.left.available_permits(), 100);
    }

    #[tokio::test]
    async fn who_waits_for_bytes_learns_that_nobody_takes_them() {
        let (sender, receiver) = queue::<usize>(3, 100);
        sender.try_send(100).unwrap();
        let (sent, ()) = tokio::join!(sender.send(1), async { drop(receiver) });
        assert_eq!(sent, Err(Refused));
    }
}
