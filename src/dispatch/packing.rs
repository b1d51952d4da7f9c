//! Packing rows into vendor calls: the largest calls the vendor takes safely, rows in input order.

use std::collections::HashMap;

use crate::domain::vendor::Packing;

/// The positions that share each call. `limit` cuts what the vendor would take down to what the operator allows.
pub(super) fn packed(rows: &[Packing], limit: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (position, packing) in rows.iter().enumerate() {
        let Packing::Together { key, at_most } = packing else {
            calls.push(vec![position]);
            continue;
        };
        let most = limit(*at_most);
        match open.get(key.as_str()) {
            Some(call) if calls[*call].len() < most => calls[*call].push(position),
            _ => {
                open.insert(key, calls.len());
                calls.push(vec![position]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn together(key: &str, at_most: usize) -> Packing {
        Packing::Together { key: key.to_owned(), at_most }
    }

    #[test]
    fn rows_share_calls_by_key_up_to_the_limit() {
        let rows = [together("a", 2), Packing::Alone, together("b", 2), together("a", 2), together("a", 2)];
        assert_eq!(packed(&rows, |most| most), [vec![0, 3], vec![1], vec![2], vec![4]]);
        assert_eq!(packed(&rows, |_| 1).len(), 5);
    }
}
