//! PEM: DER as text between two lines (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secret::Secret;

/// One block.
pub struct Block<'a> {
    /// What the lines around it say it is.
    pub label: &'a str,
    /// It begins with header lines, as encrypted keys of the old kind do.
    pub has_headers: bool,
    /// What is in it; empty if it has headers. Treated as if it were a key, because it may be.
    pub der: Secret,
}

/// The first block whose label is wanted. Other text and other blocks are passed over; `None` also
/// where it is damaged.
pub fn first<'a>(text: &'a [u8], is_wanted: impl Fn(&str) -> bool) -> Option<Block<'a>> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let label =
        lines.find_map(|line| label(line, "-----BEGIN ").filter(|label| is_wanted(label)))?;

    // All the room it will take, so that nothing is left behind by growing.
    let mut body = Secret::zeroed(text.len());
    let mut len = 0;
    let mut has_headers = false;
    loop {
        let line = lines.next()?;
        if let Some(end) = self::label(line, "-----END ") {
            if end != label {
                return None;
            }
            break;
        }
        has_headers |= line.contains(&b':');
        let line = line.trim_ascii_start();
        body.get_mut(len..)?.get_mut(..line.len())?.copy_from_slice(line);
        len += line.len();
    }
    if has_headers {
        return Some(Block { label, has_headers, der: Secret::default() });
    }
    let body = body.get(..len)?;
    let mut der = Secret::zeroed(base64::decoded_len_estimate(len));
    let len = STANDARD.decode_slice(body, &mut der).ok()?;
    let exact = Secret::from(der.get(..len)?.to_vec());
    Some(Block { label, has_headers, der: exact })
}

fn label<'a>(line: &'a [u8], start: &str) -> Option<&'a str> {
    let label = line.strip_prefix(start.as_bytes())?.strip_suffix(b"-----")?;
    std::str::from_utf8(label).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Vec<u8>)> {
        let block = first(text.as_bytes(), |label| label.ends_with('K'))?;
        Some((block.label.to_owned(), block.der.to_vec()))
    }

    #[test]
    fn the_first_wanted_block_counts() {
        let text = "text\n-----BEGIN A-----\n!\n-----END A-----\n\
                    -----BEGIN B K-----\r\nZm9v\r\n YmE=\r\n-----END B K-----\r\n\
                    -----BEGIN C K-----\nZm9v\n-----END C K-----\n";
        assert_eq!(read(text), Some(("B K".to_owned(), b"fooba".to_vec())));
    }

    #[test]
    fn damaged_blocks_are_none() {
        for bad in [
            "",
            "-----BEGIN K-----",
            "-----BEGIN K-----\nZm9v\n",
            "-----BEGIN K-----\nZm9v\n-----END J-----\n",
            "-----BEGIN K-----\nZm9\n-----END K-----\n",
            "-----BEGIN K-----\nZm9v!\n-----END K-----\n",
            " -----BEGIN K-----\nZm9v\n-----END K-----\n",
            "-----BEGIN K----\nZm9v\n-----END K----\n",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers_are_noticed() {
        let text = "-----BEGIN K-----\nProc-Type: 4,ENCRYPTED\n\nZm9v\n-----END K-----\n";
        assert!(first(text.as_bytes(), |_| true).unwrap().has_headers);
    }
}
