//! A target's corpus in one file of the repository: an input a line, in hexadecimal, shortest first, so that a change of it can
//! be read and is bounded.

/// Inputs of one target.
pub const INPUTS_MAX: usize = 1_000;
/// Of the file.
pub const FILE_BYTES_MAX: usize = 500 * 1024;

/// The file's text of these inputs: the shortest ones, as many as its limits allow, each once.
pub fn pack(mut inputs: Vec<Vec<u8>>) -> String {
    inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    inputs.dedup();
    let mut text = String::new();
    for input in inputs.iter().take(INPUTS_MAX) {
        if text.len() + 2 * input.len() + 1 > FILE_BYTES_MAX {
            break;
        }
        text.extend(input.iter().map(|byte| format!("{byte:02x}")));
        text.push('\n');
    }
    text
}

/// The inputs of a file's text; `Err` tells the line that is none.
pub fn unpack(text: &str) -> Result<Vec<Vec<u8>>, usize> {
    text.lines().enumerate().map(|(index, line)| unhex(line).ok_or(index + 1)).collect()
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let (pairs, []) = line.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let packed = pack(vec![vec![1, 0xab], vec![], vec![255], vec![1, 0xab]]);
        assert_eq!(packed, "\nff\n01ab\n");
        assert_eq!(unpack(&packed), Ok(vec![vec![], vec![255], vec![1, 0xab]]));
        assert_eq!(unpack("ff\nf\n"), Err(2));
        assert_eq!(unpack("fg\n"), Err(1));
    }

    #[test]
    fn limits() {
        let inputs = (0..=u32::try_from(INPUTS_MAX).expect("is small")).map(|number| number.to_be_bytes().to_vec());
        assert_eq!(pack(inputs.collect()).lines().count(), INPUTS_MAX);
        // Two digits a byte, and an end of line.
        let (line, shorter) = (vec![0; FILE_BYTES_MAX / 4], vec![1; FILE_BYTES_MAX / 4 - 1]);
        assert_eq!(pack(vec![line.clone(), shorter]).len(), FILE_BYTES_MAX);
        let as_long = vec![1; FILE_BYTES_MAX / 4];
        assert_eq!(pack(vec![line, as_long]).lines().count(), 1);
    }
}
