//! System calls of a node, by strace: told as they were made, or made to fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{DEADLINE, Node, eventually};

/// Bytes shown of each buffer: more than any write of these tests.
const BUFFER_BYTES_SHOWN: usize = 1 << 18;
/// How buffers leave a process, and how they become durable.
const CALLS: &str = "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync";

/// One system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it began and ended, nanoseconds since the epoch; no end: the process was killed within it.
    pub began: u64,
    pub ended: Option<u64>,
    pub name: String,
    /// What its descriptor is: a path, or `TCP:[local->remote]`.
    pub file: String,
    /// What was written.
    pub bytes: Vec<u8>,
    pub succeeded: bool,
}

/// Whether system calls can be traced here; where not, why not.
pub fn available() -> Result<(), String> {
    let tried = Command::new("strace")
        .args(["-qq", "-e", "trace=none", "true"])
        .output();
    match tried {
        Err(error) => Err(format!("strace cannot be run: {error}")),
        Ok(output) if !output.status.success() => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(_) => Ok(()),
    }
}

/// The words before a node's own for it to be traced into `directory`, a file a thread.
pub fn tracing_into(directory: &Path) -> Vec<String> {
    std::fs::create_dir_all(directory).expect("the test's directory can be written");
    let bytes = BUFFER_BYTES_SHOWN.to_string();
    let files = directory.join("calls").display().to_string();
    // -D: the node stays this test's own child. -ff: a file a thread, so that no call is told in two pieces.
    [
        "strace",
        "-D",
        "-ff",
        "--seccomp-bpf",
        "-qq",
        "-yy",
        "-x",
        "-s",
        &bytes,
        "-o",
        &files,
    ]
    .into_iter()
    .chain([
        "--absolute-timestamps=format:unix,precision:ns",
        "--syscall-times=ns",
        "-e",
    ])
    .map(str::to_owned)
    .chain([format!("trace={CALLS}")])
    .collect()
}

/// The words before a node's own for syncs of these files to fail, in each thread from its `nth` on.
pub fn failing_syncs(paths: &[PathBuf], nth: usize) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-D", "-f", "--seccomp-bpf", "-qq"].map(str::to_owned).into();
    words.extend(failing(paths, nth));
    words
}

fn failing(paths: &[PathBuf], nth: usize) -> Vec<String> {
    let mut words: Vec<String> = ["-o", "/dev/null", "-e", "trace=fsync,fdatasync"]
        .map(str::to_owned)
        .into();
    words.extend(["-e".to_owned(), format!("inject=fsync,fdatasync:error=EIO:when={nth}+")]);
    for path in paths {
        words.extend(["-P".to_owned(), path.display().to_string()]);
    }
    words
}

/// Makes syncs of these files fail in a running node, in each thread from its `nth` from now on; returns once it is so.
pub async fn fail_syncs_of(node: &mut Node, paths: &[PathBuf], nth: usize) {
    let pid = node.pid();
    let mut words = vec!["-f".to_owned(), "-p".to_owned(), pid.to_string()];
    words.extend(failing(paths, nth));
    // It ends with the node.
    let mut tracer = Command::new("strace")
        .args(words)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("strace runs");
    let number = tracer.id();
    std::thread::spawn(move || tracer.wait());
    eventually("every thread is traced", DEADLINE, || async {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        for thread in threads.flatten() {
            let seen = tracer_of(&thread.path());
            // A node that has ended at its first sync already is traced by nobody any more.
            if seen != Some(number) && !is_dead(&thread.path()) {
                return Err(format!("{} is traced by {seen:?}", thread.path().display()));
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until whoever traces a node that has ended has written everything; to be asked for while it runs.
pub struct Tracer(u32);

impl Tracer {
    pub fn of(node: &mut Node) -> Tracer {
        let process = PathBuf::from(format!("/proc/{}", node.pid()));
        Tracer(tracer_of(&process).expect("the node is traced"))
    }

    pub async fn ended(self) {
        let process = PathBuf::from(format!("/proc/{}", self.0));
        eventually("strace ends", DEADLINE, || async {
            if process.exists() {
                Err(format!("{} is there", process.display()))
            } else {
                Ok(())
            }
        })
        .await;
    }
}

fn is_dead(process: &Path) -> bool {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    status.is_empty() || status.lines().any(|line| line.starts_with("State:\tZ"))
}

fn tracer_of(process: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Everything that was traced into a directory, in the order of its beginning.
pub fn calls_in(directory: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the trace can be read").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a trace is text");
        calls.extend(text.lines().filter_map(parse));
    }
    calls.sort_by_key(|call| call.began);
    calls
}

/// One line of strace; `None`: no call, or none on a descriptor.
fn parse(line: &str) -> Option<Call> {
    let (time, rest) = line.split_once(' ')?;
    let began = nanoseconds(time)?;
    let (name, rest) = rest.split_once('(')?;
    let (_, rest) = rest.split_once('<')?;
    let end = if rest.starts_with("TCP") {
        rest.find("]>")? + 1
    } else {
        rest.find('>')?
    };
    let (file, arguments) = rest.split_at(end);
    let finished = arguments.rsplit_once(") = ").map(|(_, result)| result);
    let took = finished.and_then(|result| nanoseconds(result.rsplit_once('<')?.1.trim_end_matches('>')));
    Some(Call {
        began,
        ended: took.map(|took| began + took),
        name: name.to_owned(),
        file: file.to_owned(),
        bytes: strings(arguments),
        succeeded: finished.is_some_and(|result| result.starts_with(|first: char| first.is_ascii_digit())),
    })
}

/// `seconds.fraction`, nine digits of it.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + format!("{fraction:0<9}").parse::<u64>().ok()?)
}

/// All quoted strings, one after another, without their escapes.
fn strings(arguments: &str) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = arguments.bytes().peekable();
    let mut inside = false;
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => inside = !inside,
            b'\\' if inside => match rest.next() {
                Some(b'n') => found.push(b'\n'),
                Some(b'r') => found.push(b'\r'),
                Some(b't') => found.push(b'\t'),
                Some(b'v') => found.push(11),
                Some(b'f') => found.push(12),
                Some(b'x') => {
                    let digits =
                        [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or_default()).to_digit(16));
                    if let [Some(high), Some(low)] = digits {
                        found.push((high * 16 + low) as u8);
                    }
                }
                Some(digit @ b'0'..=b'7') => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        if let Some(next) = rest.next_if(|next| (b'0'..=b'7').contains(next)) {
                            value = value * 8 + u32::from(next - b'0');
                        }
                    }
                    found.push(value as u8);
                }
                Some(other) => found.push(other),
                None => break,
            },
            _ if inside => found.push(byte),
            _ => {}
        }
    }
    found
}

/// Lines as strace 6.1 writes them are read for what they say.
#[test]
fn lines_are_read() {
    let line = r#"1763836800.000000123 writev(23<TCP:[127.0.0.1:2001->127.0.0.1:40000]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}, {iov_base="a) = \"b\\", iov_len=7}], 2) = 24 <0.000000500>"#;
    let call = parse(line).expect("a call");
    assert_eq!(
        (call.began, call.ended),
        (1_763_836_800_000_000_123, Some(1_763_836_800_000_000_623))
    );
    assert_eq!(
        (call.name.as_str(), call.file.as_str()),
        ("writev", "TCP:[127.0.0.1:2001->127.0.0.1:40000]")
    );
    assert_eq!(call.bytes, b"HTTP/1.1 200 OK\r\na) = \"b\\");
    assert!(call.succeeded);

    let line = r#"1.5 write(7</d/raft/db/000004.log>, "\x00\xffe\0\18"..., 4) = 4 <0.1>"#;
    assert_eq!(parse(line).expect("a call").bytes, b"\x00\xffe\x00\x018");
    let failed =
        parse("1.5 fdatasync(7</d/x.log>) = -1 EIO (Input/output error) (INJECTED) <0.000000001>").expect("a call");
    assert!(!failed.succeeded && failed.ended.is_some());
    let killed = parse("1.5 fdatasync(7</d/x.log>) = ?").expect("a call");
    assert!(!killed.succeeded && killed.ended.is_none());
    assert_eq!(parse("1.5 +++ killed by SIGKILL +++"), None);
}
