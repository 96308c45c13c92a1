//! An error and its causes as one line for people.

use std::error::Error;

/// The error and its causes, each said once: a cause that its error quotes already is not repeated.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file: {0}")]
    struct Quoting(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no start")]
    struct Silent(#[source] Quoting);

    #[test]
    fn causes_are_said_once() {
        let quoting = || Quoting(std::io::Error::other("gone"));
        assert_eq!(line(&quoting()), "the file: gone");
        assert_eq!(line(&Silent(quoting())), "no start: the file: gone");
    }
}
