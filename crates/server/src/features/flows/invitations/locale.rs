//! The languages that the contract takes for a mail. We write those of the catalogue; any other is written in the address's own
//! language, or in English.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::web::catalogue::Lang;

// `tt`, not `literal`: the schema reads the rename from the token itself.
macro_rules! locales {
    ($($name:ident = $tag:tt),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
        pub enum Locale {
            $(#[serde(rename = $tag)] $name),*
        }

        impl Locale {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$name),*];

            pub const fn tag(self) -> &'static str {
                match self {
                    $(Self::$name => $tag),*
                }
            }
        }
    };
}

locales! {
    Af = "af",
    Am = "am",
    Ar = "ar",
    Bg = "bg",
    Bn = "bn",
    Bs = "bs",
    Ca = "ca",
    Cs = "cs",
    Da = "da",
    De = "de",
    DeDe = "de-DE",
    El = "el",
    En = "en",
    EnAu = "en-AU",
    EnCa = "en-CA",
    EnGb = "en-GB",
    EnUs = "en-US",
    Es = "es",
    Es419 = "es-419",
    EsEs = "es-ES",
    EsUs = "es-US",
    Et = "et",
    Fa = "fa",
    Fi = "fi",
    Fil = "fil",
    Fr = "fr",
    FrBe = "fr-BE",
    FrCa = "fr-CA",
    FrFr = "fr-FR",
    Fy = "fy",
    Gl = "gl",
    Gu = "gu",
    Ha = "ha",
    He = "he",
    Hi = "hi",
    Hr = "hr",
    Hu = "hu",
    Hy = "hy",
    Id = "id",
    Is = "is",
    It = "it",
    ItIt = "it-IT",
    Ja = "ja",
    Jv = "jv",
    Ka = "ka",
    Kk = "kk",
    Km = "km",
    Kn = "kn",
    Ko = "ko",
    Lt = "lt",
    Lv = "lv",
    Mk = "mk",
    Ml = "ml",
    Mn = "mn",
    Mr = "mr",
    Ms = "ms",
    My = "my",
    Nb = "nb",
    Ne = "ne",
    Nl = "nl",
    NlBe = "nl-BE",
    NlNl = "nl-NL",
    Nn = "nn",
    No = "no",
    Pa = "pa",
    Pl = "pl",
    Pt = "pt",
    PtBr = "pt-BR",
    PtPt = "pt-PT",
    Ro = "ro",
    Ru = "ru",
    Sk = "sk",
    Sl = "sl",
    Sq = "sq",
    Sr = "sr",
    Sv = "sv",
    Sw = "sw",
    Ta = "ta",
    Te = "te",
    Th = "th",
    Tr = "tr",
    Uk = "uk",
    Ur = "ur",
    Uz = "uz",
    Vi = "vi",
    Zh = "zh",
    ZhCn = "zh-CN",
    ZhHk = "zh-HK",
    ZhTw = "zh-TW",
    Zu = "zu",
}

impl Locale {
    /// The language of the catalogue that it asks for, if there is one.
    pub fn lang(self) -> Option<Lang> {
        Lang::find(self.tag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_is_read_by_its_tag_and_leads_to_a_language_of_ours_or_to_none() {
        assert_eq!(Locale::ALL.len(), 90);
        for locale in Locale::ALL {
            assert_eq!(serde_json::from_value::<Locale>(locale.tag().into()).ok(), Some(*locale), "{}", locale.tag());
        }
        assert_eq!((Locale::DeDe.lang(), Locale::EnGb.lang(), Locale::FrCa.lang()), (Some(Lang::De), Some(Lang::En), None));
        assert!(serde_json::from_str::<Locale>("\"xx\"").is_err());
    }
}
