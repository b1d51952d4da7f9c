//! Names that operators choose for clients, connections and catalogue entries.

use crate::config::error::ConfigErrors;

/// Checks the last name of this path; names appear in URLs, logs and metrics.
pub(super) fn check(path: &[&str], errors: &mut ConfigErrors<'_>) {
    if !path.last().is_some_and(|name| fits(name)) {
        errors.push(
            path,
            "is not a valid name: expected 1 to 100 of A-Z, a-z, 0-9, \".\", \"_\", \"-\", starting with a letter or \
             digit",
        );
    }
}

fn fits(name: &str) -> bool {
    name.len() <= 100
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn names_have_a_limited_alphabet_and_length() {
        for good in ["a", "startexam-main", "A.b_c-9", &"x".repeat(100)] {
            assert!(fits(good), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", &"x".repeat(101)] {
            assert!(!fits(bad), "{bad}");
        }
    }
}
