//! A request as ASGI tells it.

use gatewright_guard::RequestFacts;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySequence, PyTuple};

/// Headers held in place while the guard reads them: the octets stay where the server put them. Those it will not read are let go at once.
#[derive(Default)]
pub struct Headers<'py>(Vec<Bound<'py, PyTuple>>);

impl<'py> Headers<'py> {
    /// TypeError when something else than octets is among them.
    pub fn of(headers: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut held = Vec::with_capacity(4);
        let mut hold = |item| {
            let pair = pair(item)?;
            if RequestFacts::may_read(octets_at(&pair, 0)?) {
                octets_at(&pair, 1)?;
                held.push(pair);
            }
            PyResult::Ok(())
        };
        match headers.cast::<PyList>() {
            Ok(list) => list.iter().try_for_each(&mut hold)?,
            Err(_) => headers.try_iter()?.try_for_each(|item| hold(item?))?,
        }
        Ok(Self(held))
    }

    pub fn facts<'a>(&'a self, method: &'a str, is_websocket: bool) -> RequestFacts<'a> {
        let octets = self.0.iter().filter_map(|pair| Some((octets_at(pair, 0).ok()?, octets_at(pair, 1).ok()?)));
        RequestFacts::from_headers(method, is_websocket, octets)
    }
}

/// Some servers give lists of two where ASGI shows tuples.
fn pair(item: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    match item.cast_into::<PyTuple>() {
        Ok(tuple) => Ok(tuple),
        Err(other) => other.into_inner().cast::<PySequence>()?.to_tuple(),
    }
}

fn octets_at<'a>(pair: &'a Bound<'_, PyTuple>, at: usize) -> PyResult<&'a [u8]> {
    // Not `item.extract()`: that borrows from the reference instead of from the tuple.
    <&[u8]>::extract(pair.get_borrowed_item(at)?).map_err(PyErr::from)
}
