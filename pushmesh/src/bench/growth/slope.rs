//! A straight line through what was measured.

use serde::Serialize;

/// The line of least squares through all points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    pub per_one: f64,
    pub at_none: f64,
    /// The share of what differs that the line explains: 1 where all points are on it.
    pub r2: f64,
}

impl Slope {
    /// `None` for fewer than two different sizes.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if points.len() < 2 || xx == 0.0 {
            return None;
        }
        let r2 = if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) };
        Some(Self { per_one: xy / xx, at_none: mean_y - xy / xx * mean_x, r2 })
    }
}

/// What memory, CPU or time is for each more, and for none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    pub per_one: f64,
    pub at_none: f64,
    pub r2: f64,
}

impl Line {
    /// Sizes and values; `units` of what is told per one make one of the values' unit.
    pub fn through(points: &[(u64, f64)], units: f64) -> Option<Self> {
        let points: Vec<_> = points.iter().map(|(size, value)| (*size as f64, *value)).collect();
        let Slope { per_one, at_none, r2 } = Slope::through(&points)?;
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        Some(Self { per_one: rounded(per_one * units), at_none: rounded(at_none), r2: rounded(r2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_it() {
        let line = Slope::through(&[(1.0, 12.0), (10.0, 30.0), (1000.0, 2010.0)]).unwrap();
        assert!((line.per_one - 2.0).abs() < 1e-9 && (line.at_none - 10.0).abs() < 1e-6 && line.r2 > 0.999_999);
    }

    #[test]
    fn what_is_beside_the_line_is_told() {
        let line = Slope::through(&[(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)]).unwrap();
        assert_eq!((line.per_one, line.r2), (0.0, 0.0));
        assert_eq!(Slope::through(&[(0.0, 3.0), (1.0, 3.0)]).unwrap().r2, 1.0);
    }

    #[test]
    fn one_size_has_no_slope() {
        assert_eq!(Slope::through(&[]), None);
        assert_eq!(Slope::through(&[(5.0, 1.0), (5.0, 2.0)]), None);
    }

    #[test]
    fn a_line_is_told_in_smaller_units() {
        let line = Line::through(&[(1000, 11.0), (2000, 12.0)], 1024.0 * 1024.0).unwrap();
        assert_eq!((line.per_one, line.at_none), (1048.576, 10.0));
    }
}
