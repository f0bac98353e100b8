//! Strict base64url (RFC 7515 §2, RFC 4648 §5), character by character.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// For each octet its place in the alphabet, or `FOREIGN`. A table, because comparisons are slow under a fuzzer, which
/// watches them.
const VALUES: [u8; 256] = {
    let mut values = [FOREIGN; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};
const FOREIGN: u8 = 0x80;

/// No padding, no foreign characters, no bits left over: one text for one octet string.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut seen = 0;
    for chunk in text.chunks(4) {
        let mut bits = 0;
        for at in 0..4 {
            let value = chunk.get(at).map_or(0, |character| VALUES[usize::from(*character)]);
            seen |= value;
            bits = bits << 6 | u32::from(value & 63);
        }
        let [_, whole @ ..] = bits.to_be_bytes();
        let length = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            // A whole character says less than an octet.
            _ => return None,
        };
        // Bits left over would say the same twice.
        if whole[length..].iter().any(|octet| *octet != 0) {
            return None;
        }
        octets.extend_from_slice(&whole[..length]);
    }
    (seen & FOREIGN == 0).then_some(octets)
}

pub fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 4 / 3 + 3);
    for chunk in octets.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}
