//! What passes over the wire: bytes that come back, and datagrams with numbers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::network::{ADDRESSES, Network};

const TCP: u16 = 7_001;
const UDP: u16 = 7_002;
/// However late something is, it is not later than this.
const DEADLINE: Duration = Duration::from_secs(30);
/// Nothing comes any more after so long.
const QUIET: Duration = Duration::from_millis(700);
/// Between two datagrams.
const PACE: Duration = Duration::from_millis(1);
/// Round trips of which the shortest counts: on a busy machine any of them may take long.
const ROUNDS: usize = 8;

/// A datagram's number, and when it came.
pub type Heard = (u32, Instant);
/// Of a thread that hears them.
pub type Hearing = JoinHandle<Result<Vec<Heard>, String>>;

/// Side 1 sends back what it hears, on every connection, for as long as the process lives.
pub fn echo(network: &Network) -> Result<(), String> {
    let (ready, is_ready) = channel();
    network.on(1, move || {
        let listener = TcpListener::bind((ADDRESSES[1], TCP))?;
        let _ = ready.send(());
        for stream in listener.incoming() {
            let mut stream = stream?;
            std::thread::spawn(move || {
                stream.set_nodelay(true)?;
                let mut writer = stream.try_clone()?;
                std::io::copy(&mut stream, &mut writer)
            });
        }
        Ok(())
    });
    is_ready.recv_timeout(DEADLINE).map_err(|_| "nobody listens".to_owned())
}

/// Connects side 0 with side 1; how long that took.
pub fn connect(network: &Network) -> Result<(TcpStream, Duration), String> {
    let connecting = network.on(0, || {
        let began = Instant::now();
        let stream = TcpStream::connect_timeout(&SocketAddr::from((ADDRESSES[1], TCP)), DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok((stream, began.elapsed()))
    });
    joined(connecting)
}

/// The shortest of some round trips of one byte.
pub fn round_trip(stream: &mut TcpStream) -> Result<Duration, String> {
    let mut shortest = DEADLINE;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let answered = stream.write_all(b"?").and_then(|()| stream.read_exact(&mut [0]));
        answered.map_err(|error| error.to_string())?;
        shortest = shortest.min(began.elapsed());
    }
    Ok(shortest)
}

/// Sends so many bytes there and back; an error where others come back.
pub fn transfer(stream: &mut TcpStream, bytes: usize) -> Result<(), String> {
    let sent: Vec<u8> = (0..bytes).map(|place| (place * 31 / 7 % 251) as u8).collect();
    let mut writer = stream.try_clone().map_err(|error| error.to_string())?;
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).map_err(|error| error.to_string()));
    let mut heard = vec![0; bytes];
    let read = stream.read_exact(&mut heard).map_err(|error| error.to_string());
    joined(writing)?;
    read?;
    match sent == heard {
        true => Ok(()),
        false => Err("other bytes come back than were sent".to_owned()),
    }
}

/// Hears datagrams on side 1 until it is quiet; their numbers as they came, and when each came.
pub fn hear(network: &Network) -> Result<Hearing, String> {
    let (ready, is_ready) = channel();
    let hearing = network.on(1, move || hear_all(&ready));
    is_ready.recv_timeout(DEADLINE).map_err(|_| "nobody hears".to_owned())?;
    Ok(hearing)
}

fn hear_all(ready: &Sender<()>) -> std::io::Result<Vec<Heard>> {
    let socket = UdpSocket::bind((ADDRESSES[1], UDP))?;
    let _ = ready.send(());
    let mut numbers = Vec::new();
    let mut number = [0; 4];
    loop {
        let patience = if numbers.is_empty() { DEADLINE } else { QUIET };
        socket.set_read_timeout(Some(patience))?;
        match socket.recv(&mut number) {
            Ok(_) => numbers.push((u32::from_be_bytes(number), Instant::now())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(numbers),
            Err(error) => return Err(error),
        }
    }
}

/// Sends datagrams with these numbers from side 0, one after the other.
pub fn send(network: &Network, numbers: std::ops::Range<u32>) -> Result<(), String> {
    let sending = network.on(0, move || {
        let socket = UdpSocket::bind((ADDRESSES[0], 0))?;
        for number in numbers {
            socket.send_to(&number.to_be_bytes(), (ADDRESSES[1], UDP))?;
            std::thread::sleep(PACE);
        }
        Ok(())
    });
    joined(sending)
}

/// What a thread has to say.
pub fn joined<T>(thread: JoinHandle<Result<T, String>>) -> Result<T, String> {
    thread.join().map_err(|_| "a thread panicked".to_owned())?
}
