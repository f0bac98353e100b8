//! One kept connection with at most one request on it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// More than any head or body here has.
const BUFFER: usize = 16 * 1024;

/// More than any of these servers sends.
const MAX_HEADER_FIELDS: usize = 32;

pub struct Connection {
    stream: TcpStream,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    received: Vec<u8>,
}

/// What has come of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Waiting,
    Answered(u16),
}

impl Connection {
    pub fn new(address: SocketAddr, token: Token, registry: &Registry) -> io::Result<Self> {
        // Waits, which on loopback takes no time, so that the first request finds a connection.
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, unsent: Vec::new(), received: Vec::with_capacity(BUFFER) })
    }

    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let written = write(&mut self.stream, request)?;
        self.unsent.extend_from_slice(&request[written..]);
        Ok(())
    }

    /// Goes on with what it can: an error is the end of the connection.
    pub fn receive(&mut self) -> io::Result<Progress> {
        if !self.unsent.is_empty() {
            let written = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..written);
        }
        let mut buffer = [0; BUFFER];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.received.extend_from_slice(&buffer[..read]);
                    // A short read has emptied the socket: the next octets are announced anew.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let progress = parse(&self.received)?;
        if progress != Progress::Waiting {
            self.received.clear();
        }
        Ok(progress)
    }
}

/// How much the socket took.
fn write(stream: &mut TcpStream, octets: &[u8]) -> io::Result<usize> {
    match stream.write(octets) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        written => written,
    }
}

/// The one answer that may be there. None of these servers sends a body without saying how long it is.
fn parse(octets: &[u8]) -> io::Result<Progress> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADER_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let head = match response.parse(octets).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(Progress::Waiting),
    };
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse::<usize>().ok());
    let length = length.ok_or_else(|| invalid("no content-length"))?;
    let status = response.code.ok_or_else(|| invalid("no status"))?;
    Ok(if octets.len() < head + length { Progress::Waiting } else { Progress::Answered(status) })
}

#[cfg(test)]
mod tests {
    use super::{Progress, parse};

    #[test]
    fn an_answer_is_one_when_all_of_its_body_is_there() {
        let whole = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]).unwrap(), Progress::Waiting, "{end}");
        }
        assert_eq!(parse(whole).unwrap(), Progress::Answered(401));
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n").is_err());
    }
}
