//! What stands behind the `?` of a path.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};

use crate::{api::Shared, refusal::Refusal};

/// Names and values, as they stand there. Comes behind [`Call`](crate::request::Call): a stranger is told nothing of them.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl FromRequestParts<Shared> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refusal> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        pairs.map(|Query(pairs)| Self(pairs)).map_err(|_| Refusal::invalid("query", "is malformed"))
    }
}

impl Params {
    /// That there are no others, and none twice: a name that is misspelt must not be passed over.
    pub fn only(&self, known: &[&'static str]) -> Result<(), Refusal> {
        for (place, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                // The caller knows what he made up.
                let name: String = name.chars().take(64).collect();
                let reason = match known {
                    [] => "is not known: this path takes nothing behind a ?".to_owned(),
                    known => format!("is not known here; known are {}", known.join(", ")),
                };
                return Err(Refusal::invalid(name, reason));
            }
            if self.0[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal::invalid(name.clone(), "stands twice"));
            }
        }
        Ok(())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    pub fn number(&self, name: &'static str) -> Result<Option<u64>, Refusal> {
        let wrong = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            Refusal::invalid(
                name,
                if is_number { "is greater than any limit" } else { "must be a whole number, in digits" },
            )
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        self.text(name).map(|text| text.parse().ok().filter(|_| digits(text)).ok_or_else(|| wrong(text))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/v1/x?{query}").parse().unwrap();
        Params(Query::try_from_uri(&uri).unwrap().0)
    }

    #[test]
    fn what_is_unknown_or_stands_twice_is_refused_by_its_name() {
        let known = ["after", "limit"];
        params("").only(&known).unwrap();
        params("limit=1&after=2").only(&known).unwrap();
        for (query, field) in [("limits=1", "limits"), ("limit=1&limit=1", "limit"), ("=1", ""), ("%00=1", "\0")] {
            assert_eq!(params(query).only(&known).unwrap_err().field.as_deref(), Some(field), "{query}");
        }
        let long = params(&"x".repeat(5000)).only(&known).unwrap_err();
        assert_eq!(long.field.unwrap().len(), 64);
    }

    #[test]
    fn a_number_is_digits() {
        for (query, expected) in [("", Ok(None)), ("n=0", Ok(Some(0))), ("n=18446744073709551615", Ok(Some(u64::MAX)))]
        {
            assert_eq!(params(query).number("n"), expected);
        }
        for bad in
            ["n=", "n", "n=-1", "n=%2B1", "n=1.0", "n=1e3", "n=%20", "n=18446744073709551616", "n=x", "n=%FF", "n=٣"]
        {
            let refusal = params(bad).number("n").unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("n"), "{bad}");
            assert!(refusal.message.starts_with("n "), "{}", refusal.message);
        }
    }
}
