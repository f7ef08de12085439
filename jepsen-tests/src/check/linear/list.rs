//! What is not placed yet, in the order of time.

/// Calls and ends in the order of their lines, as a list from which operations are lifted and put back in reverse. Entry `i` is the call of operation `i`,
/// entry `count + i` its end, the last one the head.
pub(super) struct List {
    count: usize,
    next: Vec<usize>,
    previous: Vec<usize>,
    lines: Vec<usize>,
}

impl List {
    pub(super) fn new(times: impl Iterator<Item = (usize, usize)>) -> List {
        let (calls, ends): (Vec<usize>, Vec<usize>) = times.unzip();
        let count = calls.len();
        let lines: Vec<usize> = calls.into_iter().chain(ends).collect();
        let head = 2 * count;
        let mut order: Vec<usize> = (0..head).collect();
        order.sort_unstable_by_key(|entry| lines[*entry]);
        let mut list = List {
            count,
            next: vec![head; head + 1],
            previous: vec![head; head + 1],
            lines,
        };
        let mut last = head;
        for entry in order {
            list.next[last] = entry;
            list.previous[entry] = last;
            last = entry;
        }
        list.next[last] = head;
        list.previous[head] = last;
        list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first() == 2 * self.count
    }

    pub(super) fn first(&self) -> usize {
        self.next[2 * self.count]
    }

    pub(super) fn after(&self, entry: usize) -> usize {
        self.next[entry]
    }

    /// The operation whose call it is.
    pub(super) fn call(&self, entry: usize) -> Option<usize> {
        (entry < self.count).then_some(entry)
    }

    /// Of the head the last there is.
    pub(super) fn line(&self, entry: usize) -> usize {
        self.lines.get(entry).copied().unwrap_or(usize::MAX)
    }

    pub(super) fn lift(&mut self, operation: usize) {
        for entry in [operation, operation + self.count] {
            let (previous, next) = (self.previous[entry], self.next[entry]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    pub(super) fn put_back(&mut self, operation: usize) {
        for entry in [operation + self.count, operation] {
            let (previous, next) = (self.previous[entry], self.next[entry]);
            self.next[previous] = entry;
            self.previous[next] = entry;
        }
    }
}
