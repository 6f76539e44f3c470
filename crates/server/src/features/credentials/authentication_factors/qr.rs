//! The picture of an otpauth URI: a QR code as a black and white PNG in a `data:` URI.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use gatewright_base::Secret;
use gatewright_jose::b64;
use qrcodegen::{QrCode, QrCodeEcc};

/// Pixels of a module, and modules of the quiet zone (ISO/IEC 18004 §6.3.8).
const SCALE: usize = 6;
const QUIET: usize = 4;

/// `data:image/png;base64,..`; `None` when the text is longer than a QR code holds.
pub fn data_uri(text: &str) -> Option<Secret<String>> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let png = png(&code)?;
    Some(Secret::new(format!("data:image/png;base64,{}", b64::encode_std(png))))
}

/// PNG (ISO/IEC 15948) of one bit a pixel: a header, the compressed rows, an end.
fn png(code: &QrCode) -> Option<Vec<u8>> {
    let modules = usize::try_from(code.size()).ok()? + 2 * QUIET;
    let pixels = modules * SCALE;
    let mut rows = Vec::new();
    for module_row in 0..modules {
        // Filter 0, then white is 1. Modules outside the code are light.
        let mut row = vec![0_u8; 1 + pixels.div_ceil(8)];
        for x in 0..pixels {
            let at = |module: usize| i32::try_from(module).unwrap_or(i32::MAX) - i32::try_from(QUIET).unwrap_or(0);
            if !code.get_module(at(x / SCALE), at(module_row)) {
                row[1 + x / 8] |= 0x80 >> (x % 8);
            }
        }
        for _ in 0..SCALE {
            rows.extend_from_slice(&row);
        }
    }
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(&rows).ok()?;
    let side = u32::try_from(pixels).ok()?.to_be_bytes();
    let header = [&side[..], &side[..], &[1, 0, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &header)?;
    chunk(&mut png, *b"IDAT", &compressed.finish().ok()?)?;
    chunk(&mut png, *b"IEND", &[])?;
    Some(png)
}

fn chunk(png: &mut Vec<u8>, name: [u8; 4], data: &[u8]) -> Option<()> {
    png.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
    let mut crc = Crc::new();
    crc.update(&name);
    crc.update(data);
    png.extend_from_slice(&name);
    png.extend_from_slice(data);
    png.extend_from_slice(&crc.sum().to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::*;

    /// Reads the picture back, module by module, and compares it with the code that it is of.
    #[test]
    fn the_picture_is_the_code() {
        let text = "otpauth://totp/Expenses:ada@example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Expenses";
        let uri = data_uri(text).unwrap();
        let png = b64::decode_std(uri.reveal().strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        assert!(uri.reveal().len() < 4_096, "{}", uri.reveal().len());
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let (mut at, mut side, mut rows) = (8, 0, Vec::new());
        while at < png.len() {
            let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
            let (name, data) = (&png[at + 4..at + 8], &png[at + 8..at + 8 + length]);
            let mut crc = Crc::new();
            crc.update(name);
            crc.update(data);
            assert_eq!(png[at + 8 + length..at + 12 + length], crc.sum().to_be_bytes());
            match name {
                b"IHDR" => side = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize,
                b"IDAT" => drop(ZlibDecoder::new(data).read_to_end(&mut rows).unwrap()),
                _ => assert_eq!((name, length, at + 12), (&b"IEND"[..], 0, png.len())),
            }
            at += 12 + length;
        }
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).unwrap();
        assert_eq!(side, (code.size() as usize + 2 * QUIET) * SCALE);
        let width = 1 + side.div_ceil(8);
        assert_eq!(rows.len(), width * side);
        for y in 0..side {
            for x in 0..side {
                let light = rows[y * width + 1 + x / 8] & (0x80 >> (x % 8)) != 0;
                let module = |pixel: usize| (pixel / SCALE) as i32 - QUIET as i32;
                assert_eq!(light, !code.get_module(module(x), module(y)), "{x} {y}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_no_picture() {
        assert!(data_uri(&"x".repeat(3_000)).is_none());
    }
}
