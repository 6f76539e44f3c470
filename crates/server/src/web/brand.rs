//! The operator's colour made legible: a pure derivation in OKLCH. Hue is kept, lightness moves only as far as contrast
//! (WCAG 2) asks, chroma is reduced only to stay inside sRGB.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// All an operator may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brand {
    /// The house colours when none.
    pub color: Option<Rgb>,
    /// For dark mode; `color` when none.
    pub color_dark: Option<Rgb>,
    /// Corner radius of controls in pixels, at most 16.
    pub radius: u8,
}

/// What the brand becomes: every pair of colours that meets on a page is above its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette {
    pub light: Shades,
    pub dark: Shades,
    pub radius: u8,
}

/// The derived colours of one theme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shades {
    /// Fill of the primary button.
    pub accent: Rgb,
    /// Its border: 3.0 on surface and page.
    pub accent_edge: Rgb,
    pub accent_hover: Rgb,
    /// Words on the fill: 4.5.
    pub on_accent: Rgb,
    pub accent_soft: Rgb,
    /// Links: 4.5 on surface, page and soft.
    pub accent_text: Rgb,
}

/// An sRGB colour, written `#RRGGBB`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// Not `#RRGGBB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a colour is # and six hex digits, such as #0E6656")]
pub struct ColorError;

/// The whole palette of a brand. Pure: the same brand gives the same stylesheet on every node.
pub fn derive(brand: &Brand) -> Palette {
    let house = Palette::default();
    Palette {
        light: brand.color.map_or(house.light, |color| shades(color, &LIGHT)),
        dark: brand.color_dark.or(brand.color).map_or(house.dark, |color| shades(color, &DARK)),
        radius: brand.radius.min(16),
    }
}

impl Palette {
    /// Custom properties for light and dark, to be linked after the product's own stylesheet.
    pub fn stylesheet(&self) -> String {
        let (light, dark) = (self.light.properties(), self.dark.properties());
        format!(
            ":root{{--r-m:{}px;{light}}}\n@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n:root[data-theme=dark]{{{dark}}}\n",
            self.radius
        )
    }
}

impl Default for Palette {
    fn default() -> Self {
        Self {
            light: Shades {
                accent: Rgb(0x0E, 0x66, 0x56),
                accent_edge: Rgb(0x0E, 0x66, 0x56),
                accent_hover: Rgb(0x0A, 0x53, 0x46),
                on_accent: WHITE,
                accent_soft: Rgb(0xE0, 0xF0, 0xEB),
                accent_text: Rgb(0x0B, 0x5D, 0x4E),
            },
            dark: Shades {
                accent: Rgb(0x5F, 0xCB, 0xB3),
                accent_edge: Rgb(0x5F, 0xCB, 0xB3),
                accent_hover: Rgb(0x7D, 0xD8, 0xC4),
                on_accent: Rgb(0x05, 0x23, 0x1C),
                accent_soft: Rgb(0x13, 0x30, 0x2A),
                accent_text: Rgb(0x74, 0xD5, 0xBF),
            },
            radius: 10,
        }
    }
}

impl Shades {
    fn properties(&self) -> String {
        format!(
            "--accent:{};--accent-edge:{};--accent-hover:{};--on-accent:{};--accent-soft:{};--accent-text:{}",
            self.accent, self.accent_edge, self.accent_hover, self.on_accent, self.accent_soft, self.accent_text
        )
    }
}

impl FromStr for Rgb {
    type Err = ColorError;

    fn from_str(text: &str) -> Result<Self, ColorError> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(ColorError)?;
        let [_, red, green, blue] = value.to_be_bytes();
        Ok(Self(red, green, blue))
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }
}

impl fmt::Debug for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Rgb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// WCAG 2 contrast of two colours, 1 to 21.
pub fn contrast(one: Rgb, other: Rgb) -> f64 {
    let (one, other) = (one.luminance(), other.luminance());
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// What the brand must be legible on: never the operator's to change.
struct Ground {
    surface: Rgb,
    page: Rgb,
    /// Where lightness goes to gain contrast.
    toward: f64,
    soft_lightness: f64,
    soft_chroma: f64,
}

const LIGHT: Ground = Ground { surface: WHITE, page: Rgb(0xF3, 0xF6, 0xF4), toward: -0.01, soft_lightness: 0.95, soft_chroma: 0.03 };
const DARK: Ground =
    Ground { surface: Rgb(0x16, 0x1F, 0x1D), page: Rgb(0x0C, 0x12, 0x11), toward: 0.01, soft_lightness: 0.29, soft_chroma: 0.045 };

const WHITE: Rgb = Rgb(255, 255, 255);
const INK: Rgb = Rgb(0x06, 0x12, 0x0F);
const TEXT: f64 = 4.5;
const CONTROL: f64 = 3.0;

fn shades(color: Rgb, ground: &Ground) -> Shades {
    let accent = moved_until(color, ground.toward, |accent| contrast(label_on(accent), accent) >= TEXT);
    let on_accent = label_on(accent);
    let hover = if on_accent == WHITE { -0.05 } else { 0.05 };
    let base = Oklch::of(accent);
    let accent_soft = Oklch { lightness: ground.soft_lightness, chroma: base.chroma.min(ground.soft_chroma), ..base }.to_rgb();
    Shades {
        accent,
        accent_edge: moved_until(accent, ground.toward, |edge| {
            [ground.surface, ground.page].iter().all(|on| contrast(edge, *on) >= CONTROL)
        }),
        accent_hover: base.lighter(hover).to_rgb(),
        on_accent,
        accent_soft,
        accent_text: moved_until(accent, ground.toward, |text| {
            [ground.surface, ground.page, accent_soft].iter().all(|on| contrast(text, *on) >= TEXT)
        }),
    }
}

fn label_on(accent: Rgb) -> Rgb {
    if contrast(WHITE, accent) >= contrast(INK, accent) { WHITE } else { INK }
}

/// `start` itself if it holds, or the nearest lightness in steps of .01 that does. Ends at black or white.
fn moved_until(start: Rgb, step: f64, holds: impl Fn(Rgb) -> bool) -> Rgb {
    let base = Oklch::of(start);
    let mut color = start;
    let mut steps = 0.0;
    while !holds(color) && steps < 100.0 {
        steps += 1.0;
        color = base.lighter(step * steps).to_rgb();
    }
    color
}

/// <https://bottosson.github.io/posts/oklab/>, in polar form.
#[derive(Clone, Copy)]
struct Oklch {
    lightness: f64,
    chroma: f64,
    hue: f64,
}

impl Oklch {
    fn of(color: Rgb) -> Self {
        let [r, g, b] = color.linear();
        let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
        let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
        let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
        let lightness = 0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s;
        let a = 1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s;
        let b = 0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s;
        Self { lightness, chroma: a.hypot(b), hue: b.atan2(a) }
    }

    fn lighter(self, by: f64) -> Self {
        Self { lightness: (self.lightness + by).clamp(0.0, 1.0), ..self }
    }

    /// The sRGB colour of the same hue and lightness with as much of the chroma as the gamut holds.
    fn to_rgb(self) -> Rgb {
        let mut chroma = self.chroma;
        loop {
            if let Some(color) = rounded(Self { chroma, ..self }.linear()) {
                return color;
            }
            if chroma <= 0.0 {
                // Grey is always inside; this is for a lightness that rounding put outside.
                return if self.lightness > 0.5 { WHITE } else { Rgb(0, 0, 0) };
            }
            chroma = (chroma - 0.004).max(0.0);
        }
    }

    fn linear(self) -> [f64; 3] {
        let (a, b) = (self.chroma * self.hue.cos(), self.chroma * self.hue.sin());
        let l = (self.lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
        let m = (self.lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
        let s = (self.lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
        [
            4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
            -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
            -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
        ]
    }
}

/// None when a channel lies outside sRGB by more than rounding.
fn rounded(linear: [f64; 3]) -> Option<Rgb> {
    const SLACK: f64 = 0.0005;
    let [r, g, b] = linear;
    [r, g, b].iter().all(|channel| (-SLACK..=1.0 + SLACK).contains(channel)).then(|| Rgb(encode(r), encode(g), encode(b)))
}

fn encode(linear: f64) -> u8 {
    let linear = linear.clamp(0.0, 1.0);
    let encoded = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    // In 0..=255 by the clamp above.
    (encoded * 255.0).round() as u8
}

impl Rgb {
    fn linear(self) -> [f64; 3] {
        [self.0, self.1, self.2].map(|channel| {
            let encoded = f64::from(channel) / 255.0;
            if encoded <= 0.040_45 { encoded / 12.92 } else { ((encoded + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn luminance(self) -> f64 {
        let [r, g, b] = self.linear();
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color(text: &str) -> Rgb {
        text.parse().expect("a colour")
    }

    fn light(text: &str) -> Shades {
        derive(&Brand { color: Some(color(text)), color_dark: None, radius: 10 }).light
    }

    fn assert_legible(shades: &Shades, ground: &Ground, text: Rgb, given: Rgb) {
        for (what, one, other, limit) in [
            ("label on accent", shades.on_accent, shades.accent, TEXT),
            ("label on hover", shades.on_accent, shades.accent_hover, TEXT),
            ("edge on surface", shades.accent_edge, ground.surface, CONTROL),
            ("edge on page", shades.accent_edge, ground.page, CONTROL),
            ("link on surface", shades.accent_text, ground.surface, TEXT),
            ("link on page", shades.accent_text, ground.page, TEXT),
            ("link on soft", shades.accent_text, shades.accent_soft, TEXT),
            ("text on soft", text, shades.accent_soft, TEXT),
        ] {
            let measured = contrast(one, other);
            assert!(measured >= limit, "{given}: {what} {one}/{other} is {measured:.2}, not {limit}");
        }
    }

    #[test]
    fn no_colour_of_the_grid_falls_under_a_limit_in_either_theme() {
        let steps: Vec<u8> = (0..18).map(|step| step * 15).collect();
        let mut tried = 0;
        for &red in &steps {
            for &green in &steps {
                for &blue in &steps {
                    let given = Rgb(red, green, blue);
                    let palette = derive(&Brand { color: Some(given), color_dark: None, radius: 10 });
                    assert_legible(&palette.light, &LIGHT, color("#14201C"), given);
                    assert_legible(&palette.dark, &DARK, color("#E8EFEC"), given);
                    tried += 2;
                }
            }
        }
        assert_eq!(tried, 11_664);
    }

    #[test]
    fn the_house_palette_keeps_its_own_rules() {
        let house = Palette::default();
        assert_legible(&house.light, &LIGHT, color("#14201C"), house.light.accent);
        assert_legible(&house.dark, &DARK, color("#E8EFEC"), house.dark.accent);
    }

    #[test]
    fn a_brand_colour_that_is_legible_is_left_alone() {
        let violet = light("#7C3AED");
        assert_eq!((violet.accent, violet.on_accent, violet.accent_text), (color("#7C3AED"), WHITE, color("#7C3AED")));
        assert!((contrast(violet.on_accent, violet.accent) - 5.7).abs() < 0.05);
    }

    #[test]
    fn orange_keeps_its_fill_and_gains_a_dark_label_an_edge_and_a_darker_link() {
        let orange = light("#F97316");
        assert_eq!((orange.accent, orange.on_accent), (color("#F97316"), INK));
        assert!((contrast(INK, orange.accent) - 6.8).abs() < 0.05);
        assert_eq!((orange.accent_edge, orange.accent_text), (color("#E46603"), color("#AE4C00")));
    }

    #[test]
    fn pale_yellow_stays_yellow_with_a_border_that_can_be_seen() {
        let yellow = light("#FACC15");
        assert_eq!((yellow.accent, yellow.on_accent), (color("#FACC15"), INK));
        assert!((contrast(INK, yellow.accent) - 12.5).abs() < 0.05);
        assert_eq!((yellow.accent_edge, yellow.accent_text), (color("#A98909"), color("#82690B")));
    }

    #[test]
    fn a_stylesheet_holds_both_themes_and_nothing_but_colours_and_a_radius() {
        let sheet = derive(&Brand { color: Some(color("#F97316")), color_dark: Some(color("#FFFFFF")), radius: 200 }).stylesheet();
        assert!(sheet.starts_with(":root{--r-m:16px;--accent:#F97316;"), "{sheet}");
        assert_eq!(sheet.matches("--accent:#FFFFFF").count(), 2, "{sheet}");
    }

    #[test]
    fn only_hash_and_six_hex_digits_are_a_colour() {
        assert_eq!("#0e6656".parse(), Ok(Rgb(0x0E, 0x66, 0x56)));
        for text in ["", "#fff", "0E6656", "#0E66567", "#GGGGGG", "#+12345", "red;}", "#é6656"] {
            assert_eq!(text.parse::<Rgb>(), Err(ColorError), "{text}");
        }
    }
}
