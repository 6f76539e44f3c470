//! Claims and user objects between JSON and Python.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// Deeper than this is no claim that anybody sends; serde_json stops at the same depth.
const MAX_DEPTH: usize = 128;

pub fn dict_of<'py>(py: Python<'py>, map: &Map<String, Value>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in map {
        dict.set_item(name, object_of(py, value)?)?;
    }
    Ok(dict)
}

pub fn object_of<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(yes) => PyBool::new(py, *yes).to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => whole.into_pyobject(py)?.into_any(),
            (None, Some(whole)) => whole.into_pyobject(py)?.into_any(),
            (None, None) => PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object_of(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(map) => dict_of(py, map)?.into_any(),
    })
}

pub fn map_of(object: &Bound<'_, PyAny>) -> PyResult<Map<String, Value>> {
    match value_of(object, 0)? {
        Value::Object(map) => Ok(map),
        _ => Err(PyTypeError::new_err("a mapping with names as strings is needed")),
    }
}

fn value_of(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(PyValueError::new_err("the value is nested too deeply for JSON"));
    }
    // A bool is an int to Python: it has to be asked for first.
    if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(yes) = object.cast::<PyBool>() {
        Ok(Value::Bool(yes.is_true()))
    } else if let Ok(text) = object.cast::<PyString>() {
        Ok(Value::String(text.to_cow()?.into_owned()))
    } else if object.is_instance_of::<PyInt>() {
        object.extract::<i64>().map(Value::from).or_else(|_| object.extract::<u64>().map(Value::from))
    } else if let Ok(number) = object.cast::<PyFloat>() {
        Number::from_f64(number.value()).map(Value::Number).ok_or_else(|| PyValueError::new_err("JSON has no such number"))
    } else if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        object.try_iter()?.map(|item| value_of(&item?, depth + 1)).collect::<PyResult<_>>().map(Value::Array)
    } else if let Ok(items) = object.call_method0("items") {
        let mut map = Map::new();
        for item in items.try_iter()? {
            let (name, value): (String, Bound<'_, PyAny>) = item?.extract()?;
            map.insert(name, value_of(&value, depth + 1)?);
        }
        Ok(Value::Object(map))
    } else {
        Err(PyTypeError::new_err(format!("{} is nothing JSON can say", object.get_type().qualname()?)))
    }
}
