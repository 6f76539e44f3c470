//! The operator's brand from the configuration, derived once at start.

use std::sync::Arc;

use super::assets;
use super::brand::{Palette, Rgb, derive as derive_palette};
use super::pages::AppFrame;
use crate::platform::config::{Brand, ConfigError};
use crate::platform::cx::Look;

pub fn derive(brand: &Brand) -> Result<Look, ConfigError> {
    let color = |key: &'static str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            text.parse::<Rgb>().map(Some).map_err(|error| ConfigError::new(key, format!("{text:?} is not a colour"), error.to_string()))
        }
    };
    let given = super::brand::Brand {
        color: color("brand.color", &brand.color)?,
        color_dark: color("brand.color_dark", &brand.color_dark)?,
        radius: brand.radius,
    };
    let palette = derive_palette(&given);
    let stylesheet = (palette != Palette::default()).then(|| {
        let css = palette.stylesheet();
        (assets::hashed_href("brand", "css", css.as_bytes()), css.into())
    });
    let app = AppFrame {
        name: brand.name.clone(),
        logo_url: brand.logo_url.clone(),
        logo_dark_url: None,
        privacy_url: brand.privacy_url.clone(),
        terms_url: brand.terms_url.clone(),
        support_url: brand.support_url.clone(),
        keystone: brand.keystone,
        doorway: brand.doorway,
        palette,
    };
    Ok(Look { app: Arc::new(app), stylesheet })
}
