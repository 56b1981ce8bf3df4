//! What browsers and crawlers ask every host for by themselves. It is no link, and no attempt at one.

/// A file that the images host has without anybody's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteFile {
    /// `/favicon.ico` and touch icons: there is none, which is said once a day and not once a picture.
    Icon,
    /// `/robots.txt` (RFC 9309): nothing here is for crawlers.
    Robots,
}

/// How long browsers keep the answer.
pub const CACHE_CONTROL: &str = "public, max-age=86400";

impl SiteFile {
    /// Reads a raw request target. With a query it could be a link.
    pub fn at(target: &str) -> Option<Self> {
        match target {
            "/robots.txt" => Some(Self::Robots),
            "/favicon.ico" => Some(Self::Icon),
            _ => target
                .strip_prefix("/apple-touch-icon")
                .and_then(|rest| rest.strip_suffix(".png"))
                .filter(|middle| middle.len() <= 32 && middle.bytes().all(is_plain))
                .map(|_| Self::Icon),
        }
    }

    /// Status, and the text of the body.
    pub const fn answer(self) -> (u16, Option<&'static str>) {
        match self {
            Self::Icon => (204, None),
            Self::Robots => (200, Some("User-agent: *\nDisallow: /\n")),
        }
    }
}

/// `-120x120-precomposed` and the like.
const fn is_plain(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icons_and_robots_are_known_by_their_whole_target() {
        assert_eq!(SiteFile::at("/robots.txt"), Some(SiteFile::Robots));
        for icon in [
            "/favicon.ico",
            "/apple-touch-icon.png",
            "/apple-touch-icon-precomposed.png",
            "/apple-touch-icon-120x120-precomposed.png",
        ] {
            assert_eq!(SiteFile::at(icon), Some(SiteFile::Icon), "{icon}");
        }
        for other in [
            "/",
            "/favicon.ico?exp=1",
            "//favicon.ico",
            "/a/favicon.ico",
            "/apple-touch-icon/a.png",
            "/apple-touch-icon%20.png",
            "/apple-touch-icon.jpg",
            "/robots.txt/",
        ] {
            assert_eq!(SiteFile::at(other), None, "{other}");
        }
    }
}
