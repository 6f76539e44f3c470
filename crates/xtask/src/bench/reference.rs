//! What the machine can do at best: the figures the product is held against.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

/// Prints one number: operations a second. `http` serves instead, until its standard input closes.
pub fn reference(name: &str, seconds: f64) -> Result<bool, String> {
    let span = Duration::from_secs_f64(seconds);
    let rate = match name {
        "rsa" => rsa(span)?,
        "argon2" => argon2(span)?,
        "http" => return serve(),
        _ => return Err(format!("no reference `{name}`: rsa, argon2, http")),
    };
    println!("{rate}");
    Ok(true)
}

/// RSA-2048 signatures over a message of a token's size.
fn rsa(span: Duration) -> Result<f64, String> {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| "no RSA key")?;
    let (message, mut signature) = ([7; 600], vec![0; key.public_modulus_len()]);
    let chance = SystemRandom::new();
    repeat(span, || key.sign(&RSA_PKCS1_SHA256, &chance, &message, &mut signature).map_err(|_| "no signature".into()))
}

/// argon2id at the product's default parameters: 19 MiB, two passes, one lane.
fn argon2(span: Duration) -> Result<f64, String> {
    let params = Params::new(19_456, 2, 1, Some(32)).map_err(|error| error.to_string())?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; 32];
    repeat(span, || hasher.hash_password_into(b"correct horse battery", b"sixteen byte salt", &mut hash).map_err(|error| error.to_string()))
}

fn repeat(span: Duration, mut work: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    let start = Instant::now();
    let mut times = 0u32;
    while start.elapsed() < span {
        work()?;
        times += 1;
    }
    Ok(f64::from(times) / start.elapsed().as_secs_f64())
}

/// The least an HTTP server can do: read up to the blank line, write the same bytes every time.
/// The first line of standard input is the size of the body; the first line of output is the port.
fn serve() -> Result<bool, String> {
    let mut size = String::new();
    std::io::stdin().read_line(&mut size).map_err(|error| error.to_string())?;
    let size: usize = size.trim().parse().map_err(|_| "the size of the body comes first on standard input")?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    println!("{}", listener.local_addr().map_err(|error| error.to_string())?.port());
    let response: &'static [u8] =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size))
            .into_bytes()
            .leak();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, response));
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(true)
}

fn answer(mut stream: TcpStream, response: &[u8]) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut filled) = ([0; 8192], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(response).is_err() {
                return;
            }
        }
    }
}
