//! `$GENERATE`, a directive of BIND's that no RFC knows: one line that stands for many, numbered ones.
//!
//! `$` is the number, `${OFFSET,WIDTH,BASE}` the number and an offset, with zeros in front up to a width, in base `d`, `o`, `x`,
//! `X`, or as nibbles of an address that is written backwards, `n` and `N`; `\$` and `$$` are a dollar sign.

use super::{
    lex::Token,
    read::{Wrong, wrong},
};

/// Records of one `$GENERATE`: the hosts of a /16.
pub(super) const NUMBERS_MAX: u32 = 65_536;
/// Records of all `$GENERATE`s of a document: some lines are not to take as long as a large file.
pub(super) const ALL_MAX: usize = 4 * NUMBERS_MAX as usize;
/// A label has 63 octets, and nibbles take two.
const WIDTH_MAX: usize = 128;
/// Of name and data as they stand: more than the longest data takes with all of its octets escaped.
const PATTERN_BYTES_MAX: usize = 300 * 1024;
pub(super) const LAW: &str = "must be $GENERATE START-STOP[/STEP] NAME [TTL] [IN] TYPE DATA";
pub(super) const REMEDY: &str = "for example $GENERATE 1-254 host-$ A 192.0.2.$";
const NUMBER_LAW: &str = "must have ${OFFSET}, ${OFFSET,WIDTH} or ${OFFSET,WIDTH,BASE}, with a width up to 128 and a base of d, o, x, X, n, N";
const NUMBER_REMEDY: &str = "for example ${0,3,d}; \\$ is a dollar sign";

/// What one directive makes.
#[derive(Debug)]
pub(super) struct Pattern {
    start: u32,
    stop: u32,
    step: u32,
    owner: Vec<Piece>,
    /// Time to live, class and type, as they stand.
    head: String,
    data: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number { offset: i64, width: usize, base: Base },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Decimal,
    Octal,
    Hex { is_upper: bool },
    Nibbles { is_upper: bool },
}

impl Pattern {
    /// `rest`: what follows the owner, of which `data` is the end.
    pub(super) fn new(range: &Token, owner: &Token, rest: &[Token], data: &[Token]) -> Result<Self, Wrong> {
        let (start, stop, step) = numbers(range).ok_or_else(|| {
            wrong(format!("{} is no range START-STOP or START-STOP/STEP of numbers below 2³¹", range.raw()), REMEDY)
        })?;
        if (stop - start) / step >= NUMBERS_MAX {
            let law = format!("makes more than {NUMBERS_MAX} records");
            return Err(wrong(law, "take a smaller range; several directives may follow each other"));
        }
        if owner.is_quoted || data.is_empty() {
            return Err(wrong(LAW, REMEDY));
        }
        if owner.text.len() + data.iter().map(|token| token.text.len()).sum::<usize>() > PATTERN_BYTES_MAX {
            let law = format!("has a name and data of more than {PATTERN_BYTES_MAX} bytes");
            return Err(wrong(law, "no record has so much"));
        }
        let head = rest.get(..rest.len() - data.len()).unwrap_or_default();
        // As in BIND data of several words may be one string, which is then no string of the data.
        let data = match data {
            [whole] if whole.is_quoted => whole.text.replace("\\\"", "\""),
            _ => words(data),
        };
        Ok(Self { start, stop, step, owner: pieces(&owner.text)?, head: words(head), data: pieces(&data)? })
    }

    /// The numbers of its records.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (self.start..=self.stop).step_by(self.step as usize)
    }

    /// The record of one number, as a line of a zone file.
    pub(super) fn line(&self, number: u32) -> Result<String, Wrong> {
        let (owner, data) = (filled(&self.owner, number)?, filled(&self.data, number)?);
        Ok(format!("{owner} {} {data}", self.head))
    }
}

fn words(tokens: &[Token]) -> String {
    tokens.iter().map(Token::raw).collect::<Vec<_>>().join(" ")
}

/// `1-10`, `1-10/2`
fn numbers(token: &Token) -> Option<(u32, u32, u32)> {
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| is_number && i32::try_from(*number).is_ok())
    };
    let (range, step) = token.text.split_once('/').unwrap_or((&token.text, "1"));
    let (start, stop) = range.split_once('-')?;
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    (start <= stop && step > 0).then_some((start, stop, step))
}

fn pieces(text: &str) -> Result<Vec<Piece>, Wrong> {
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            // An escape and what it escapes stay what they are.
            '\\' => plain.extend([c].into_iter().chain(rest.next())),
            '$' if rest.as_str().starts_with('$') => {
                rest.next();
                plain.push_str("\\$");
            }
            '$' => {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                let (piece, after) = match rest.as_str().strip_prefix('{') {
                    None => (Some(Piece::Number { offset: 0, width: 0, base: Base::Decimal }), rest.as_str()),
                    Some(inner) => inner.split_once('}').map_or((None, ""), |(form, after)| (number(form), after)),
                };
                pieces.push(piece.ok_or_else(|| wrong(NUMBER_LAW, NUMBER_REMEDY))?);
                rest = after.chars();
            }
            c => plain.push(c),
        }
    }
    pieces.push(Piece::Text(plain));
    Ok(pieces)
}

/// `OFFSET`, `OFFSET,WIDTH`, `OFFSET,WIDTH,BASE`
fn number(form: &str) -> Option<Piece> {
    let mut parts = form.split(',');
    let offset = i64::from(parts.next()?.parse::<i32>().ok()?);
    let width = parts.next().map_or(Some(0), |width| width.parse().ok().filter(|width| *width <= WIDTH_MAX))?;
    let base = match parts.next() {
        None | Some("d") => Base::Decimal,
        Some("o") => Base::Octal,
        Some("x") => Base::Hex { is_upper: false },
        Some("X") => Base::Hex { is_upper: true },
        Some("n") => Base::Nibbles { is_upper: false },
        Some("N") => Base::Nibbles { is_upper: true },
        Some(_) => return None,
    };
    parts.next().is_none().then_some(Piece::Number { offset, width, base })
}

fn filled(pieces: &[Piece], number: u32) -> Result<String, Wrong> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Number { offset, width, base } => {
                let value = u64::try_from(i64::from(number) + offset).map_err(|_| {
                    wrong(format!("makes a number below 0 of {number} and the offset {offset}"), "correct the offset")
                })?;
                text.push_str(&written(value, *width, *base));
            }
        }
    }
    Ok(text)
}

fn written(value: u64, width: usize, base: Base) -> String {
    match base {
        Base::Decimal => format!("{value:0width$}"),
        Base::Octal => format!("{value:0width$o}"),
        Base::Hex { is_upper: false } => format!("{value:0width$x}"),
        Base::Hex { is_upper: true } => format!("{value:0width$X}"),
        Base::Nibbles { is_upper } => nibbles(value, width, is_upper),
    }
}

/// Digits from the last to the first with dots between them, which count for the width as the digits do.
fn nibbles(mut value: u64, width: usize, is_upper: bool) -> String {
    let mut text = String::new();
    loop {
        let digit = char::from_digit((value & 15) as u32, 16).unwrap_or('0');
        text.push(if is_upper { digit.to_ascii_uppercase() } else { digit });
        value >>= 4;
        if text.len() >= width && value == 0 {
            return text;
        }
        text.push('.');
        if text.len() >= width && value == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, number: u32, expected: Option<&str>) {
        let made = pieces(text).and_then(|pieces| filled(&pieces, number));
        assert_eq!(made.ok().as_deref(), expected, "{text}");
    }

    #[test]
    fn numbers_are_filled_in() {
        check("host", 1, Some("host"));
        check("host-$", 12, Some("host-12"));
        check("$-$.x", 0, Some("0-0.x"));
        check(r"a\$b$$c$", 1, Some(r"a\$b\$c1"));
        check("${0}", 7, Some("7"));
        check("${-5}", 7, Some("2"));
        check("${-7}", 7, Some("0"));
        check("${-8}", 7, None);
        check("${100,5}", 7, Some("00107"));
        check("${0,3,o}${0,3,x}${0,3,X}", 255, Some("3770ff0FF"));
        check("${0,0,n}", 0xa1, Some("1.a"));
        check("${0,0,N}", 0xa1, Some("1.A"));
        check("${0,7,n}", 0xa1, Some("1.a.0.0"));
        // What BIND makes of an even width.
        check("${0,4,n}", 0xa1, Some("1.a."));
        check("${0,128}", 1, Some(&format!("{:0128}", 1)));
        for bad in ["${0,129}", "${", "${}", "${x}", "${0,-1}", "${0,1,b}", "${0,1,d,1}", "${2147483648}"] {
            check(bad, 1, None);
        }
        check("${2147483647}", i32::MAX as u32, Some("4294967294"));
        check("\\", 1, Some("\\"));
    }

    #[test]
    fn both_sides_of_the_longest_pattern() {
        let token = |text: &str| Token { text: text.to_owned(), is_quoted: false };
        let is_taken = |bytes: usize| {
            let rest = [token("TXT"), token(&"x".repeat(bytes - 1))];
            Pattern::new(&token("1-2"), &token("$"), &rest, &rest[1..]).is_ok()
        };
        assert_eq!((is_taken(PATTERN_BYTES_MAX), is_taken(PATTERN_BYTES_MAX + 1)), (true, false));
    }

    #[test]
    fn ranges() {
        let check = |text: &str, expected: Option<(u32, u32, u32)>| {
            assert_eq!(numbers(&Token { text: text.to_owned(), is_quoted: false }), expected, "{text}");
        };
        check("1-10", Some((1, 10, 1)));
        check("0-0/5", Some((0, 0, 5)));
        check("0-2147483647/2147483647", Some((0, i32::MAX as u32, i32::MAX as u32)));
        for bad in ["", "1", "2-1", "1-2/0", "1-2147483648", "-1-2", "1-+2", "1-2/", "a-b", "1-2-3"] {
            check(bad, None);
        }
    }
}
