//! A small write-ahead log: a record is written, synced, and only then acknowledged. The power is cut while it goes on.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use blox_jepsen_tests::lossy::Cut;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Mounted, SERVICE, tried};

/// Power cuts, each by a seed of its own.
const CUTS: u64 = 200;
/// The power is cut after so many acknowledged records, at most.
const RECORDS_MAX: usize = 30;
/// A record's length beside its head, bytes.
const PAYLOAD_BYTES: std::ops::Range<usize> = 1..9_000;
/// Length of the record, its number, and the sum of its bytes, four bytes each.
const HEAD_BYTES: usize = 12;
/// A new file is begun once one is so long.
const FILE_BYTES_MAX: usize = 40_000;

/// Whatever the seed: all acknowledged records are there, in order, clean cut or torn.
pub fn acknowledged_records() -> Result<(), String> {
    let mounted = Mounted::new("log")?;
    for seed in 0..CUTS {
        let (acknowledged, found) = cut_at(&mounted, seed, File::sync_data)?;
        if found < acknowledged {
            return Err(format!(
                "seed {seed}: {acknowledged} records were acknowledged, {found} are there"
            ));
        }
    }
    Ok(())
}

/// A log that acknowledges without a sync is found out: this test can fail.
pub fn records_not_synced() -> Result<(), String> {
    let mounted = Mounted::new("canary")?;
    for seed in 0..20 {
        let (acknowledged, found) = cut_at(&mounted, seed, |_| Ok(()))?;
        if found < acknowledged {
            return Ok(());
        }
    }
    Err("none of 20 cuts lost a record that was not synced".to_owned())
}

/// Writes until the power is cut: how many records were acknowledged, and how many are there afterwards.
fn cut_at(
    mounted: &Mounted,
    seed: u64,
    sync: impl Fn(&File) -> std::io::Result<()> + Send,
) -> Result<(usize, usize), String> {
    let folder = mounted.data().join(format!("log-{seed}"));
    tried("making the log's folder", fs::create_dir(&folder))?;
    tried(
        "syncing above",
        File::open(mounted.data()).and_then(|above| above.sync_all()),
    )?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let cut_after = random.random_range(0..RECORDS_MAX);
    let how = match random.random_bool(0.5) {
        true => Cut::Torn(seed),
        false => Cut::Clean,
    };
    let (acknowledges, acknowledged) = mpsc::channel();
    let count = std::thread::scope(|scope| {
        let writer = scope.spawn(|| append(&folder, &mut random, sync, &acknowledges));
        for _ in 0..cut_after {
            acknowledged
                .recv()
                .map_err(|_| format!("seed {seed}: the writer ended early"))?;
        }
        mounted.wait(mounted.disks.cut(SERVICE, how))?;
        writer.join().map_err(|_| format!("seed {seed}: the writer panicked"))
    })?;
    mounted.wait(mounted.disks.restore(SERVICE))?;
    Ok((count, read(&folder)?))
}

/// Appends until that fails; how many records were acknowledged.
fn append(
    folder: &Path,
    random: &mut ChaCha8Rng,
    sync: impl Fn(&File) -> std::io::Result<()>,
    acknowledges: &mpsc::Sender<()>,
) -> usize {
    let mut count = 0;
    let mut write_all = || -> std::io::Result<()> {
        loop {
            let mut file = File::create_new(path(folder, count))?;
            let (mut length, mut is_named) = (0, false);
            while length < FILE_BYTES_MAX {
                let record = record(count as u32, random);
                // In two writes, as programs do that fill a buffer.
                let (first, second) = record.split_at(random.random_range(0..record.len()));
                file.write_all(first)?;
                file.write_all(second)?;
                sync(&file)?;
                if !is_named {
                    File::open(folder)?.sync_all()?;
                    is_named = true;
                }
                length += record.len();
                count += 1;
                // Whoever cuts the power may have heard enough.
                let _ = acknowledges.send(());
            }
        }
    };
    let _ = write_all();
    count
}

/// A file is named by the number of its first record.
fn path(folder: &Path, first: usize) -> std::path::PathBuf {
    folder.join(format!("{first:06}.log"))
}

fn record(number: u32, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut payload = vec![0; random.random_range(PAYLOAD_BYTES)];
    random.fill(payload.as_mut_slice());
    let head = [payload.len() as u32, number, sum(&payload)];
    let mut record: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
    record.append(&mut payload);
    record
}

fn sum(payload: &[u8]) -> u32 {
    // Of zeros it is not 0: a hole is no record.
    payload
        .iter()
        .fold(1, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

/// How many records are there, from the first on, one after the other.
fn read(folder: &Path) -> Result<usize, String> {
    let mut count = 0;
    while let Ok(file) = fs::read(path(folder, count)) {
        let before = count;
        let mut rest = file.as_slice();
        while let Some((head, behind)) = rest.split_at_checked(HEAD_BYTES) {
            let (words, _) = head.as_chunks();
            let [bytes, number, expected] = [0, 1, 2].map(|word| u32::from_le_bytes(words[word]));
            let Some((payload, behind)) = behind.split_at_checked(bytes as usize) else {
                break;
            };
            if number as usize != count || expected != sum(payload) {
                break;
            }
            count += 1;
            rest = behind;
        }
        if count == before {
            break;
        }
    }
    Ok(count)
}
