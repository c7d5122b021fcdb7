//! Names of remote hosts, as they were observed.

use super::{
    error::ApiError,
    query::{self, Query},
};
use crate::{daemon::sockets::Sockets, view::NameView};
use axum::http::StatusCode;

/// Fields to sort by: numbers and times from the largest, text from A.
const SORTS: [&str; 5] = ["last", "first", "name", "address", "answers"];

/// The names that are asked for, latest first, and how many there are.
///
/// # Errors
/// Names aren't read; filter or order make no sense.
pub async fn names(sockets: &Sockets, asked: &Query) -> Result<(usize, Vec<NameView>), ApiError> {
    let filter = query::filter::<NameView>(asked.filter.as_deref().unwrap_or(""))?;
    super::sockets::fresh(sockets).await?;
    let mut rows = sockets.names().ok_or_else(|| off(sockets))?;
    rows.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(row)));
    sort(&mut rows, asked.sort.as_deref())?;
    let total = rows.len();
    rows.truncate(asked.limit());
    Ok((total, rows))
}

fn off(sockets: &Sockets) -> ApiError {
    let why = sockets.limits().into_iter().find(|limit| limit.contains("names of remote hosts"));
    let message = why.unwrap_or_else(|| {
        "names aren't read: the configuration doesn't say `names = true` under `[sockets]`"
            .to_owned()
    });
    ApiError::new(StatusCode::NOT_FOUND, "names-off", message)
}

fn sort(rows: &mut [NameView], by: Option<&str>) -> Result<(), ApiError> {
    let by = by.unwrap_or("last");
    let (name, turned) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    // Ties by name and address, so that the same table comes out in the same order.
    rows.sort_by(|a, b| (&a.name, &a.address, a.netns).cmp(&(&b.name, &b.address, b.netns)));
    match name {
        "last" => rows.sort_by(|a, b| b.last.cmp(&a.last)),
        "first" => rows.sort_by(|a, b| b.first.cmp(&a.first)),
        "name" => {}
        "address" => rows.sort_by(|a, b| a.address.cmp(&b.address)),
        "answers" => rows.sort_by_key(|row| std::cmp::Reverse(row.answers)),
        _ => return Err(query::unsortable(name, SORTS.into_iter())),
    }
    if turned {
        rows.reverse();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_that_is_asked_for() {
        let row = |name: &str, last: &str, answers| NameView {
            name: name.into(),
            last: last.into(),
            answers,
            ..NameView::default()
        };
        let mut rows = vec![row("b", "2", 9), row("a", "1", 3), row("c", "3", 1)];
        let mut by = |by: Option<&str>| {
            sort(&mut rows, by).expect("a field");
            rows.iter().map(|row| row.name.as_str()).collect::<String>()
        };
        assert_eq!(by(None), "cba");
        assert_eq!((by(Some("name")), by(Some("-name"))), ("abc".into(), "cba".into()));
        assert_eq!(by(Some("answers")), "bac");
        let error = sort(&mut rows, Some("colour")).expect_err("none");
        assert!(error.body.message.contains("answers"), "{}", error.body.message);
        for name in SORTS {
            sort(&mut rows, Some(name)).expect("as it is listed");
        }
    }
}
