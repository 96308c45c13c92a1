//! The pictures of the demo's site, painted by arithmetic: an indexed PNG of a skyline under a sky for each city, and SVGs.
//!
//! The PNG's pixels are stored, not compressed: a photograph would not shrink either, and the file then depends on
//! nothing but this page.

use std::fmt::Write as _;

use super::generated::mix;
use crate::cities::{CITIES, City};

const CRC_POLYNOMIAL: u32 = 0xedb8_8320;
const STORED_BLOCK_BYTES_MAX: usize = 65_535;

/// A picture of 8-bit palette indices, row by row, as a PNG (ISO/IEC 15948). `pixels` is cut to whole rows of `width`.
fn png(width: u32, palette: &[[u8; 3]], pixels: &[u8]) -> Vec<u8> {
    let rows = pixels.chunks_exact(width as usize);
    let height = rows.len() as u32;
    let mut raw = Vec::with_capacity(pixels.len() + height as usize);
    for row in rows {
        raw.push(0); // filter type 0: none
        raw.extend_from_slice(row);
    }
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 3, 0, 0, 0]); // bit depth, palette colour, deflate, adaptive filters, not interlaced

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"PLTE", &palette.concat());
    chunk(&mut file, b"IDAT", &stored_zlib(&raw));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let checked_from = file.len();
    file.extend(kind);
    file.extend(data);
    let crc = crc32(file.get(checked_from..).unwrap_or_default());
    file.extend(crc.to_be_bytes());
}

/// The remainder of each byte: eight steps at once.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut step) = (index as u32, 0);
        while step < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { CRC_POLYNOMIAL } else { 0 };
            step += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

fn crc32(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc = (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)];
    }
    !crc
}

/// A zlib stream (RFC 1950) of stored deflate blocks (RFC 1951 §3.2.4).
fn stored_zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.len().div_ceil(STORED_BLOCK_BYTES_MAX);
    for (index, block) in data.chunks(STORED_BLOCK_BYTES_MAX).enumerate() {
        out.push(u8::from(index + 1 == blocks));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend_from_slice(block);
    }
    let (low, high) = data.iter().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    out.extend((high << 16 | low).to_be_bytes());
    out
}

const SKY_COLOURS: usize = 224;
const HOUSE: u8 = 254;
const WINDOW: u8 = 255;

/// A skyline at dusk: the city's own colours, houses and lit windows, `width` × `width / 2` pixels.
pub(crate) fn skyline(city: &City, seed: u64, width: u32) -> Vec<u8> {
    let height = width / 2;
    let own = mix(seed ^ u64::from(city.code));
    let column = (width / 40).max(2);
    let mut pixels = Vec::with_capacity((width * height) as usize);
    for y in 0..height {
        for x in 0..width {
            let house = x / column;
            let draw = mix(own ^ u64::from(house));
            let roof = height / 3 + (draw % u64::from(height / 2).max(1)) as u32;
            let pixel = if y < roof {
                sky(x, y, width, height, own)
            } else {
                let (cell_x, cell_y) = (x % column * 8 / column, (y - roof) * 80 / width % 4);
                let lit = mix(draw ^ u64::from((y - roof) * 20 / width) << 8 ^ u64::from(cell_x / 3)) % 5 < 2;
                let frame = cell_x % 3 == 2 || cell_y > 1;
                if lit && !frame && x % column != 0 { WINDOW } else { HOUSE }
            };
            pixels.push(pixel);
        }
    }
    png(width, &palette(own), &pixels)
}

/// Three slow waves above each other: whole numbers only, so that every machine paints the same sky.
fn sky(x: u32, y: u32, width: u32, height: u32, own: u64) -> u8 {
    let wave = |at: u32, period: u32| {
        let period = period.max(2);
        let phase = at % period;
        let half = period / 2;
        if phase < half { phase * 64 / half } else { (period - phase) * 64 / (period - half) }
    };
    let shift = (own % 997) as u32;
    let waves =
        wave(x + shift + y / 2, width * 2 / 3) + wave(2 * x + 3 * y + shift, width) + wave(3 * y + x, width / 2);
    let gradient = y * 160 / height.max(1);
    (gradient + waves / 3).min(SKY_COLOURS as u32 - 1) as u8
}

fn palette(own: u64) -> Vec<[u8; 3]> {
    let [r, g, b, ..] = own.to_le_bytes();
    let (night, dusk) = ([20 + r / 8, 24 + g / 8, 60 + b / 4], [200 + r / 5, 120 + g / 4, 90 + b / 3]);
    let between = |from: u8, to: u8, step: usize| {
        (usize::from(from) + (usize::from(to).saturating_sub(usize::from(from))) * step / SKY_COLOURS) as u8
    };
    let mut colours: Vec<[u8; 3]> = (0..SKY_COLOURS)
        .map(|step| {
            [between(night[0], dusk[0], step), between(night[1], dusk[1], step), between(night[2], dusk[2], step)]
        })
        .collect();
    colours.resize(usize::from(HOUSE), dusk);
    colours.push([18, 20, 34]);
    colours.push([255, 214, 130]);
    colours
}

/// The world as a grid of meridians and parallels with the cities on it.
pub(crate) fn map() -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-180 -90 360 180\" role=\"img\" aria-label=\"Where the edges are\">\n\
         <rect x=\"-180\" y=\"-90\" width=\"360\" height=\"180\" fill=\"#12142a\"/>\n<g stroke=\"#2e3358\" stroke-width=\".4\">\n",
    );
    let line = |svg: &mut String, d: String| {
        svg.push_str("<path d=\"");
        svg.push_str(&d);
        svg.push_str("\"/>\n");
    };
    for x in (-150..=150).step_by(30) {
        line(&mut svg, format!("M{x}-90V90"));
    }
    for y in (-60..=60).step_by(30) {
        line(&mut svg, format!("M-180 {y}H180"));
    }
    svg.push_str("</g>\n<g font-family=\"sans-serif\" font-size=\"6\" fill=\"#f4efe6\">\n");
    for city in &CITIES {
        let (x, y) = (city.longitude, -city.latitude);
        // Writing to a String cannot fail.
        writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"2\" fill=\"#ffb454\"/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 3.5,
            y + 2.0,
            city.name
        )
        .unwrap_or_default();
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// The mark of the project: a body, its ellipse, and the nearest point of the orbit.
pub(crate) const MARK: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\" role=\"img\" aria-label=\"Perigee\">\n\
    <ellipse cx=\"16\" cy=\"16\" rx=\"14\" ry=\"9\" fill=\"none\" stroke=\"#8a93c8\" stroke-width=\"1.5\"/>\n\
    <circle cx=\"9\" cy=\"16\" r=\"4\" fill=\"#5661b3\"/>\n<circle cx=\"2.5\" cy=\"16\" r=\"2\" fill=\"#ffb454\"/>\n</svg>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // RFC 1950's Adler-32 of "abc" is 0x024d0127.
        assert_eq!(stored_zlib(b"abc"), [0x78, 1, 1, 3, 0, 0xfc, 0xff, b'a', b'b', b'c', 0x02, 0x4d, 0x01, 0x27]);
    }

    #[test]
    fn long_data_is_several_stored_blocks_and_only_the_last_says_so() {
        let stream = stored_zlib(&vec![7; STORED_BLOCK_BYTES_MAX + 1]);
        assert_eq!(stream[2], 0);
        assert_eq!(stream[2 + 5 + STORED_BLOCK_BYTES_MAX..][..3], [1, 1, 0]);
    }

    #[test]
    fn a_skyline_is_a_png_of_its_size_and_the_citys_own() {
        let [fra, lon, ..] = &CITIES;
        let picture = skyline(fra, 1, 64);
        assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
        assert_eq!(picture[16..24], [0, 0, 0, 64, 0, 0, 0, 32]);
        assert_eq!(picture[picture.len() - 8..], [b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82]);
        assert_eq!(picture, skyline(fra, 1, 64));
        assert_ne!(picture, skyline(lon, 1, 64));
    }

    #[test]
    fn every_city_is_on_the_map() {
        let map = map();
        assert!(CITIES.iter().all(|city| map.contains(city.name)));
    }
}
