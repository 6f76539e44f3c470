/// Which way a list runs. `Normal` is newest first with the meaning of the cursors swapped:
/// `after` asks for newer rows and `before` for older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    Asc,
    #[default]
    Desc,
    Normal,
}

/// A checked request for one page of a list ordered by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    pub limit: u32,
    pub order: Order,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self { limit: 10, order: Order::Desc, before: None, after: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageQueryError {
    Limit,
    Order,
    Cursors,
}

impl PageQuery {
    pub fn parse(limit: Option<&str>, order: Option<&str>, before: Option<&str>, after: Option<&str>) -> Result<Self, PageQueryError> {
        let limit = match limit.filter(|l| !l.is_empty()) {
            None => 10,
            Some(text) => match text.parse::<u32>() {
                Ok(limit @ 1..=100) => limit,
                _ => return Err(PageQueryError::Limit),
            },
        };
        let order = match order.filter(|o| !o.is_empty()) {
            None | Some("desc") => Order::Desc,
            Some("asc") => Order::Asc,
            Some("normal") => Order::Normal,
            Some(_) => return Err(PageQueryError::Order),
        };
        let given = |cursor: Option<&str>| cursor.filter(|c| !c.is_empty()).map(str::to_owned);
        let (before, after) = (given(before), given(after));
        if before.is_some() && after.is_some() {
            return Err(PageQueryError::Cursors);
        }
        Ok(Self { limit, order, before, after })
    }

    /// The cursor and the direction of the scan: `(cursor, rows newer than it?)`.
    /// Rows are read away from the cursor, so the nearest come first.
    pub fn scan(&self) -> Scan<'_> {
        let (older, newer) = match self.order {
            Order::Asc => (self.before.as_deref(), self.after.as_deref()),
            Order::Desc => (self.after.as_deref(), self.before.as_deref()),
            Order::Normal => (self.before.as_deref(), self.after.as_deref()),
        };
        match (older, newer) {
            (_, Some(cursor)) => Scan { cursor: Some(cursor), ascending: true },
            (Some(cursor), None) => Scan { cursor: Some(cursor), ascending: false },
            (None, None) => Scan { cursor: None, ascending: self.order == Order::Asc },
        }
    }

    /// Turns the rows of [`PageQuery::scan`], at most `limit + 1` of them, into the page asked for.
    /// `limit + 1` rows say that more follow in the direction of the scan.
    pub fn page<T>(&self, mut rows: Vec<T>, id: impl Fn(&T) -> &str) -> Page<T> {
        let scan = self.scan();
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let shown_ascending = self.order == Order::Asc;
        if scan.ascending != shown_ascending {
            rows.reverse();
        }
        // The end of the page that the scan ran towards has more rows only if it overflowed; the end
        // it came from has more rows if there was a cursor there (the cursor's own row at least).
        let ran_to_last = scan.ascending == shown_ascending;
        let from_cursor = scan.cursor.is_some() && !rows.is_empty();
        let (more_before, more_after) = if ran_to_last { (from_cursor, more) } else { (more, from_cursor) };
        let first = rows.first().map(|r| id(r).to_owned()).filter(|_| more_before);
        let last = rows.last().map(|r| id(r).to_owned()).filter(|_| more_after);
        let (before, after) = if self.order == Order::Normal { (last, first) } else { (first, last) };
        Page { data: rows, before, after }
    }
}

/// How the store reads: strictly beyond `cursor`, ids ascending or descending, `limit + 1` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    pub cursor: Option<&'a str>,
    pub ascending: bool,
}

/// One page and its cursors, `None` at the ends of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl<T> Page<T> {
    pub fn map<U>(self, view: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(view).collect(), before: self.before, after: self.after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(all: &[String], query: &PageQuery) -> Page<String> {
        let scan = query.scan();
        let mut rows: Vec<String> = all
            .iter()
            .filter(|r| match scan.cursor {
                None => true,
                Some(c) if scan.ascending => r.as_str() > c,
                Some(c) => r.as_str() < c,
            })
            .cloned()
            .collect();
        rows.sort();
        if !scan.ascending {
            rows.reverse();
        }
        rows.truncate(query.limit as usize + 1);
        query.page(rows, |r| r)
    }

    fn rows(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("{i:03}")).collect()
    }

    #[test]
    fn w15_walks_25_rows_forwards_and_back_without_loss() {
        for (count, pages) in [(25, 3), (20, 2)] {
            let all = rows(count);
            for order in ["asc", "desc"] {
                let mut seen = Vec::new();
                let mut query = PageQuery::parse(Some("10"), Some(order), None, None).unwrap();
                let mut walked = Vec::new();
                loop {
                    let page = fetch(&all, &query);
                    assert_eq!(page.before.is_none(), walked.is_empty());
                    seen.extend(page.data.clone());
                    walked.push(page.clone());
                    let Some(after) = page.after else { break };
                    query = PageQuery::parse(Some("10"), Some(order), None, Some(&after)).unwrap();
                }
                assert_eq!(walked.len(), pages);
                let mut expected = all.clone();
                if order == "desc" {
                    expected.reverse();
                }
                assert_eq!(seen, expected);
                let mut cursor = walked.last().unwrap().before.clone();
                for earlier in walked.iter().rev().skip(1) {
                    let back = PageQuery::parse(Some("10"), Some(order), cursor.as_deref(), None).unwrap();
                    let page = fetch(&all, &back);
                    assert_eq!(page.data, earlier.data);
                    cursor = page.before;
                }
                assert_eq!(cursor, None);
            }
        }
    }

    #[test]
    fn w14_normal_is_newest_first_with_reversed_cursors() {
        let all = rows(5);
        let first = fetch(&all, &PageQuery::parse(Some("2"), Some("normal"), None, None).unwrap());
        assert_eq!(first.data, ["004", "003"]);
        assert_eq!((first.before.as_deref(), first.after.as_deref()), (Some("003"), None));
        let older = fetch(&all, &PageQuery::parse(Some("2"), Some("normal"), Some("003"), None).unwrap());
        assert_eq!(older.data, ["002", "001"]);
        let newer = fetch(&all, &PageQuery::parse(Some("2"), Some("normal"), None, Some("002")).unwrap());
        assert_eq!(newer.data, ["004", "003"]);
    }

    #[test]
    fn w14_limits_and_orders_out_of_range_are_refused() {
        for limit in ["0", "101", "-1", "x", "1000000000", "1e3"] {
            assert_eq!(PageQuery::parse(Some(limit), None, None, None), Err(PageQueryError::Limit), "{limit}");
        }
        assert_eq!(PageQuery::parse(None, Some("id; DROP TABLE users"), None, None), Err(PageQueryError::Order));
        assert_eq!(PageQuery::parse(None, None, Some("a"), Some("b")), Err(PageQueryError::Cursors));
    }
}
