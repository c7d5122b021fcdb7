//! What waits to be sent to one client: bounded, so that one stalled tab costs a fixed amount of
//! memory and delays nobody.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Most messages that wait.
const MAX_MESSAGES: usize = 512;
/// Most bytes that wait. One message may be larger: it is taken when nothing else waits.
const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Utf8Bytes>,
    bytes: usize,
}

/// The queue between whoever has something to say and the session that writes it to the socket.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
}

impl Outbox {
    /// Puts messages at the end, all or none.
    ///
    /// # Errors
    /// The messages back, where the queue is full.
    pub fn offer(&self, messages: Vec<Utf8Bytes>) -> Result<(), Vec<Utf8Bytes>> {
        let bytes: usize = messages.iter().map(|message| message.len()).sum();
        let mut queue = self.lock();
        let full =
            queue.messages.len() + messages.len() > MAX_MESSAGES || queue.bytes + bytes > MAX_BYTES;
        if full && !queue.messages.is_empty() {
            return Err(messages);
        }
        queue.bytes += bytes;
        queue.messages.extend(messages);
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }

    /// Puts a message at the end, whatever waits already: for answers, of which the client can only
    /// have as many as it sent requests.
    pub fn insist(&self, message: Utf8Bytes) {
        let mut queue = self.lock();
        queue.bytes += message.len();
        queue.messages.push_back(message);
        drop(queue);
        self.ready.notify_one();
    }

    /// Everything that waits.
    pub fn take(&self) -> VecDeque<Utf8Bytes> {
        let mut queue = self.lock();
        queue.bytes = 0;
        std::mem::take(&mut queue.messages)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    /// Waits until there is something to take.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_by_count_and_by_bytes_but_one_large_message_goes() {
        let outbox = Outbox::default();
        for _ in 0..MAX_MESSAGES {
            outbox.offer(vec!["x".into()]).expect("room");
        }
        assert_eq!(outbox.offer(vec!["y".into()]).map_err(|back| back.len()), Err(1));
        assert_eq!(outbox.take().len(), MAX_MESSAGES);
        let large = Utf8Bytes::from("x".repeat(MAX_BYTES + 1));
        outbox.offer(vec![large.clone()]).expect("nothing else waits");
        assert!(outbox.offer(vec!["y".into()]).is_err());
        outbox.insist("answer".into());
        assert_eq!(outbox.take().len(), 2);
        outbox.offer(vec!["y".into()]).expect("room again");
    }
}
