//! One connection to PostgreSQL, driven by the thread that waits for its answers. The driver's own blocking client waits for each answer
//! before it sends the next question; here several may travel together.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Value;

/// How long a closing connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

type Connection = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + 'a>>;

pub(crate) struct Link {
    // Dropped before its driver, which can then say goodbye.
    client: Client,
    driver: Driver,
}

/// The side of the connection that reads and writes.
struct Driver {
    runtime: Runtime,
    /// None once it has ended.
    connection: Option<Connection>,
}

pub(crate) enum LinkError {
    Postgres(Error),
    Runtime(std::io::Error),
}

impl Link {
    pub(crate) fn open(config: &Config, tls: Option<MakeRustlsConnect>) -> Result<Self, LinkError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(LinkError::Runtime)?;
        let connected: Result<(Client, Connection), Error> = runtime.block_on(async {
            match tls {
                None => config.connect(NoTls).await.map(|(client, connection)| (client, Box::pin(connection) as Connection)),
                Some(tls) => config.connect(tls).await.map(|(client, connection)| (client, Box::pin(connection) as Connection)),
            }
        });
        let (client, connection) = connected.map_err(LinkError::Postgres)?;
        Ok(Self { client, driver: Driver { runtime, connection: Some(connection) } })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.driver.connection.is_none() || self.client.is_closed()
    }

    pub(crate) fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        self.wait(async |client| client.prepare(sql).await)
    }

    /// Several statements without parameters.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), Error> {
        self.wait(async |client| client.batch_execute(sql).await)
    }

    pub(crate) fn execute(&mut self, statement: &Statement, params: &[Value]) -> Result<u64, Error> {
        self.wait(async |client| client.execute(statement, &borrowed(params)).await)
    }

    /// Sends `first`, if there is one, and all of `asks` before it waits for the answers, and gives the rows of each of `asks`. The
    /// server answers them in order; the first that fails is the error.
    pub(crate) fn exchange(&mut self, first: Option<&str>, asks: &[(&Statement, &[Value])]) -> Result<Vec<Vec<Row>>, Error> {
        self.wait(async |client| {
            let mut answers: Vec<Answer<'_>> = Vec::with_capacity(asks.len() + 1);
            if let Some(sql) = first {
                answers.push(Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) }));
            }
            for (statement, params) in asks {
                answers.push(Box::pin(async move { client.query(*statement, &borrowed(params)).await }));
            }
            let mut found = join(answers).await;
            found.drain(..usize::from(first.is_some())).collect::<Result<Vec<_>, _>>()?;
            found.into_iter().collect()
        })
    }

    fn wait<T>(&mut self, work: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, Error> {
        let Driver { runtime, connection } = &mut self.driver;
        runtime.block_on(async {
            let mut work = pin!(work(&self.client));
            poll_fn(|context| {
                // Once to send what there is to send, once more to see what came: neither waits for the other to be woken.
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                // An ended connection is dropped, which ends every answer still waited for.
                if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(context).is_ready()) {
                    *connection = None;
                }
                work.as_mut().poll(context)
            })
            .await
        })
    }
}

/// All answers, in the order of the questions, which are sent in that order.
async fn join(mut answers: Vec<Answer<'_>>) -> Vec<Result<Vec<Row>, Error>> {
    let mut found: Vec<Option<Result<Vec<Row>, Error>>> = answers.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut all = true;
        for (answer, found) in answers.iter_mut().zip(&mut found) {
            if found.is_none() {
                match answer.as_mut().poll(context) {
                    Poll::Ready(done) => *found = Some(done),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    found.into_iter().flatten().collect()
}

fn borrowed(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Says goodbye, so that the server's log does not tell of a lost client.
impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(async { tokio::time::timeout(GOODBYE, connection).await });
        }
    }
}
