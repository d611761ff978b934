//! The search for the highest rate that holds: doubling until one does not, then the middle between.

/// What is known so far.
#[derive(Debug, Clone)]
pub struct Search {
    first: f64,
    /// The search is over when the lowest rate that failed is at most so many times the highest that held.
    precision: f64,
    holds: Option<f64>,
    fails: Option<f64>,
}

impl Search {
    pub fn new(first: f64, precision: f64) -> Self {
        Self { first, precision, holds: None, fails: None }
    }

    /// The rate to try next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        match (self.holds, self.fails) {
            (None, None) => Some(self.first),
            (Some(holds), None) => Some(holds * 2.0),
            // Below one a second nothing is worth finding.
            (None, Some(fails)) => (fails >= 2.0).then_some(fails / 2.0),
            (Some(holds), Some(fails)) => (fails > holds * self.precision).then(|| (holds * fails).sqrt()),
        }
    }

    /// What became of a rate that was tried.
    pub fn tried(&mut self, rate: f64, held: bool) {
        if held {
            self.holds = Some(self.holds.map_or(rate, |holds| holds.max(rate)));
        } else {
            self.fails = Some(self.fails.map_or(rate, |fails| fails.min(rate)));
            // Noise: what held before does not count against a failure below it.
            self.holds = self.holds.filter(|holds| *holds < rate);
        }
    }

    /// The highest rate that held.
    pub fn highest(&self) -> Option<f64> {
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limit: f64, first: f64) -> (f64, usize) {
        let mut search = Search::new(first, 1.05);
        let mut tries = 0;
        while let Some(rate) = search.next() {
            search.tried(rate, rate <= limit);
            tries += 1;
        }
        (search.highest().unwrap_or(0.0), tries)
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (limit, first) in [(17_000.0, 500.0), (17_000.0, 16_999.0), (300.0, 5000.0), (3.0, 1000.0)] {
            let (found, tries) = find(limit, first);
            assert!(found <= limit && found * 1.05 >= limit, "{found} for {limit}");
            assert!(tries <= 20, "{tries} tries for {limit}");
        }
    }

    #[test]
    fn a_limit_below_all_rates_ends_the_search() {
        assert_eq!(find(0.0, 1000.0).0, 0.0);
    }

    #[test]
    fn a_failure_below_what_held_is_believed() {
        let mut search = Search::new(100.0, 1.05);
        search.tried(100.0, true);
        search.tried(200.0, true);
        search.tried(150.0, false);
        assert_eq!((search.highest(), search.next()), (None, Some(75.0)));
    }
}
