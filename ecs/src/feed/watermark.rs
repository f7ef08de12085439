//! How far the feed has come: everything sent to the queue before the watermark is in the state.
//!
//! Two things show it: a long poll that found nothing, by its start; and the oldest message that is received and not applied, by when it was
//! sent, as far as SQS delivers in order. Neither shows anything while messages may be hidden that this session knows nothing of: those of the
//! leader before, and those of an answer that was lost. They come back when their hiding ends.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use blox_runtime::time::Instant;

use super::VISIBILITY_MS;
use super::receive::POLL_WAIT_MS;

/// A message's place in time: when it was sent, milliseconds since the epoch, and its number. One without a time comes before all others, so
/// that nothing is claimed while it is not applied.
type Sent = (i64, u64);

/// The watermark of one session.
pub(super) struct Watermark {
    /// Received and not applied, and given up until they are visible again; oldest first.
    unapplied: BTreeSet<Sent>,
    /// Those given up, and until when they count.
    given_up: VecDeque<(Instant, Sent)>,
    next_poll: u64,
    /// Polls under way, by their number: a smaller one began earlier.
    polls: BTreeSet<u64>,
    /// Polls that found nothing, where one that began before them is still under way and may bring what they did not see.
    found_nothing: Vec<Poll>,
    /// Before this instant, messages may be hidden that nobody here knows of.
    quiet_until: Instant,
    reached_ms: Option<i64>,
}

/// A long poll.
#[derive(Clone, Copy)]
pub(crate) struct Poll {
    number: u64,
    began: Instant,
    began_at_ms: i64,
}

/// How a long poll ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollEnd {
    /// With messages, all of them noted as received.
    Messages,
    /// With an empty answer.
    Empty,
    /// It certainly took nothing: refused, or never sent.
    Failed,
    /// Without an answer: whatever it took is hidden, and comes back.
    Lost,
}

impl Watermark {
    /// Of a session that begins now: messages of the leader before may be hidden for a while.
    pub(super) fn new(now: Instant) -> Watermark {
        Watermark {
            unapplied: BTreeSet::new(),
            given_up: VecDeque::new(),
            next_poll: 0,
            polls: BTreeSet::new(),
            found_nothing: Vec::new(),
            quiet_until: now + Duration::from_millis(VISIBILITY_MS),
            reached_ms: None,
        }
    }

    pub(super) fn poll_begins(&mut self, began_at_ms: i64, began: Instant) -> Poll {
        let number = self.next_poll;
        self.next_poll += 1;
        self.polls.insert(number);
        Poll {
            number,
            began,
            began_at_ms,
        }
    }

    pub(super) fn poll_ends(&mut self, poll: Poll, end: PollEnd, now: Instant) {
        self.polls.remove(&poll.number);
        match end {
            PollEnd::Messages | PollEnd::Failed => {}
            PollEnd::Empty => self.found_nothing.push(poll),
            // The queue may still hand messages to a poll whose asker is gone.
            PollEnd::Lost => self.be_quiet(now.max(poll.began + Duration::from_millis(POLL_WAIT_MS))),
        }
        let oldest_poll = self.polls.first().copied().unwrap_or(u64::MAX);
        let quiet_until = self.quiet_until;
        let mut reached_ms = self.reached_ms;
        self.found_nothing.retain(|poll| {
            let is_waiting = poll.number > oldest_poll;
            if !is_waiting && poll.began >= quiet_until {
                reached_ms = reached_ms.max(Some(poll.began_at_ms));
            }
            is_waiting
        });
        self.reached_ms = reached_ms;
    }

    pub(super) fn received(&mut self, id: u64, sent_at_ms: Option<i64>) {
        self.unapplied.insert(sent(id, sent_at_ms));
    }

    /// Up to now, the oldest of what is not applied showed how far the feed has come.
    pub(super) fn applied(&mut self, id: u64, sent_at_ms: Option<i64>, received: Instant, now: Instant) {
        self.forget_what_is_visible(now);
        if received >= self.quiet_until {
            self.reached_ms = self.reached_ms.max(self.oldest_unapplied());
        }
        self.unapplied.remove(&sent(id, sent_at_ms));
    }

    /// It is hidden and comes back: until then nothing beyond it counts, and no empty poll shows that it is not there.
    pub(super) fn given_up(&mut self, id: u64, sent_at_ms: Option<i64>, now: Instant) {
        let sent = sent(id, sent_at_ms);
        self.reached_ms = self.reached_ms.map(|reached| reached.min(sent.0));
        self.be_quiet(now);
        self.given_up.push_back((self.quiet_until, sent));
    }

    /// The watermark, if there is one: what was reached, but never beyond the oldest message that is not applied.
    pub(super) fn milliseconds(&mut self, now: Instant) -> Option<i64> {
        self.forget_what_is_visible(now);
        let reached = self.reached_ms?;
        Some(self.oldest_unapplied().map_or(reached, |oldest| reached.min(oldest)))
    }

    fn oldest_unapplied(&self) -> Option<i64> {
        self.unapplied.first().map(|(sent_at_ms, _)| *sent_at_ms)
    }

    fn be_quiet(&mut self, now: Instant) {
        self.quiet_until = self.quiet_until.max(now + Duration::from_millis(VISIBILITY_MS));
    }

    fn forget_what_is_visible(&mut self, now: Instant) {
        while let Some((until, sent)) = self.given_up.front()
            && *until <= now
        {
            self.unapplied.remove(sent);
            self.given_up.pop_front();
        }
    }
}

fn sent(id: u64, sent_at_ms: Option<i64>) -> Sent {
    (sent_at_ms.unwrap_or(i64::MIN), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watermark and the seconds of its session; the wall clock counts milliseconds from the session's start.
    struct Session {
        watermark: Watermark,
        began: Instant,
    }

    impl Session {
        fn new() -> Session {
            let began = Instant::now();
            Session {
                watermark: Watermark::new(began),
                began,
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.began + Duration::from_secs(seconds)
        }

        fn begins(&mut self, second: u64) -> Poll {
            let now = self.at(second);
            self.watermark.poll_begins(second as i64 * 1_000, now)
        }

        fn ends(&mut self, second: u64, poll: Poll, end: PollEnd) {
            let now = self.at(second);
            self.watermark.poll_ends(poll, end, now);
        }

        /// A poll over two seconds that finds nothing.
        fn empty_poll(&mut self, second: u64) {
            let poll = self.begins(second);
            self.ends(second + 2, poll, PollEnd::Empty);
        }

        /// The watermark in that second, in seconds.
        fn seconds(&mut self, second: u64) -> Option<i64> {
            let now = self.at(second);
            self.watermark
                .milliseconds(now)
                .map(|milliseconds| milliseconds / 1_000)
        }
    }

    /// In the first moments of a session the messages of the leader before may be hidden: neither an empty queue nor an applied message
    /// proves anything.
    #[tokio::test(start_paused = true)]
    async fn a_new_session_claims_nothing_at_first() {
        let mut session = Session::new();
        session.empty_poll(9);
        session.watermark.received(1, Some(8_000));
        let (received, applied) = (session.at(9), session.at(20));
        session.watermark.applied(1, Some(8_000), received, applied);
        assert_eq!(session.seconds(20), None);
        session.empty_poll(20);
        assert_eq!(session.seconds(22), Some(20));
    }

    /// An empty poll says nothing while one that began earlier may bring what it did not see; what that one brought then holds it back.
    #[tokio::test(start_paused = true)]
    async fn an_empty_poll_waits_for_those_before_it() {
        let mut session = Session::new();
        let earlier = session.begins(20);
        session.empty_poll(21);
        let later = session.begins(23);
        assert_eq!(session.seconds(23), None);
        session.watermark.received(1, Some(19_000));
        session.ends(24, earlier, PollEnd::Messages);
        assert_eq!(session.seconds(24), Some(19));
        let now = session.at(25);
        session.watermark.applied(1, Some(19_000), now, now);
        assert_eq!(session.seconds(25), Some(21));
        session.ends(25, later, PollEnd::Empty);
        assert_eq!(session.seconds(25), Some(23));
    }

    /// What an answer held that was lost is hidden for a while: no poll of that time proves anything. A refusal took nothing.
    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_makes_empty_polls_say_nothing() {
        let mut session = Session::new();
        let refused = session.begins(20);
        session.ends(20, refused, PollEnd::Failed);
        session.empty_poll(21);
        assert_eq!(session.seconds(23), Some(21));
        let lost = session.begins(30);
        session.ends(31, lost, PollEnd::Lost);
        session.empty_poll(35);
        session.empty_poll(41);
        assert_eq!(session.seconds(43), Some(21));
        session.empty_poll(42);
        assert_eq!(session.seconds(44), Some(42));
    }

    /// A message that was given up holds the watermark until it may be visible again, also against what is applied meanwhile.
    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_holds_the_watermark() {
        let mut session = Session::new();
        session.watermark.received(1, Some(19_000));
        session.empty_poll(20);
        assert_eq!(session.seconds(22), Some(19));
        let now = session.at(23);
        session.watermark.given_up(1, Some(19_000), now);
        session.empty_poll(24);
        session.watermark.received(2, Some(24_000));
        let now = session.at(26);
        session.watermark.applied(2, Some(24_000), now, now);
        assert_eq!(session.seconds(26), Some(19));
        assert_eq!(
            session.seconds(33),
            Some(19),
            "nothing has shown yet that it is not there"
        );
        session.empty_poll(33);
        assert_eq!(session.seconds(35), Some(33));
    }

    /// A queue that is never empty moves it too, by the oldest of what is not applied; a message without a time stops it.
    #[tokio::test(start_paused = true)]
    async fn a_busy_queue_moves_it_by_its_oldest_message() {
        let mut session = Session::new();
        let now = session.at(30);
        session.watermark.received(1, Some(28_000));
        session.watermark.received(2, Some(29_000));
        session.watermark.applied(2, Some(29_000), now, now);
        assert_eq!(session.seconds(30), Some(28));
        session.watermark.received(3, None);
        session.watermark.applied(1, Some(28_000), now, now);
        session.empty_poll(31);
        assert!(session.seconds(33) < Some(0));
        session.watermark.applied(3, None, now, now);
        assert_eq!(session.seconds(33), Some(31));
    }
}
