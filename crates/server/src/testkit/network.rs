//! A network of the test's own: names resolve as the test says, and only this machine can be reached.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::platform::outbound::{Connecting, LookupAnswer, Network, SystemNetwork};

/// Remembers every name looked up and every address connected to.
#[derive(Debug, Default)]
pub struct TestNetwork(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The answers of a name, one a look-up; the last one stays.
    names: HashMap<String, VecDeque<Vec<IpAddr>>>,
    looked_up: Vec<String>,
    connected: Vec<SocketAddr>,
}

impl TestNetwork {
    /// From now on `host` has these addresses.
    pub fn publish(&self, host: &str, addresses: &[&str]) {
        self.publish_changing(host, &[addresses]);
    }

    /// `host` has the first addresses at the next look-up, the second at the one after, and keeps the last.
    pub fn publish_changing(&self, host: &str, answers: &[&[&str]]) {
        let parse = |address: &&str| address.parse().expect("the test's address is one");
        let answers = answers.iter().map(|answer| answer.iter().map(parse).collect()).collect();
        self.inner().names.insert(host.to_owned(), answers);
    }

    /// Every name looked up so far.
    pub fn looked_up(&self) -> Vec<String> {
        self.inner().looked_up.clone()
    }

    /// Every address a connection was asked for, whether or not it can be reached.
    pub fn connected(&self) -> Vec<SocketAddr> {
        self.inner().connected.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network for TestNetwork {
    fn lookup<'a>(&'a self, host: &'a str) -> LookupAnswer<'a> {
        let mut inner = self.inner();
        inner.looked_up.push(host.to_owned());
        let answer = match inner.names.get_mut(host) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None if host == "localhost" => Some(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
            None => None,
        };
        Box::pin(std::future::ready(answer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))))
    }

    fn connect(&self, to: SocketAddr) -> Connecting<'_> {
        self.inner().connected.push(to);
        if to.ip().to_canonical().is_loopback() {
            return SystemNetwork.connect(to);
        }
        Box::pin(std::future::ready(Err(io::Error::from(io::ErrorKind::NetworkUnreachable))))
    }
}
