//! The page's files, compiled in. They live under a folder named by the hash of all of them: browsers keep them for
//! ever, and a new build is a new folder.

use crate::pages::{Asset, CSS, JS};

macro_rules! assets {
    ($($name:literal: $content_type:expr),* $(,)?) => {
        &[$(Asset { name: $name, content_type: $content_type, text: include_str!(concat!("page/", $name)) }),*]
    };
}

/// All files but the page itself.
pub const ASSETS: &[Asset] = assets![
    "actions.js": JS,
    "alert.js": JS,
    "api.js": JS,
    "app.js": JS,
    "card.js": JS,
    "dom.js": JS,
    "form.js": JS,
    "gallery.js": JS,
    "job.js": JS,
    "life.js": JS,
    "messages.js": JS,
    "preview.js": JS,
    "store.js": JS,
    "usage.js": JS,
    "viewer.js": JS,
    "studio.css": CSS,
    "pictures.css": CSS,
    "icon.svg": "image/svg+xml",
];

/// The page; `/studio/VERSION/` stands for the folder.
const PAGE: &str = include_str!("page/index.html");

/// The folder's name.
pub fn version() -> String {
    crate::pages::version(ASSETS)
}

/// The page with its folder's name.
pub fn page(version: &str) -> String {
    PAGE.replace("/studio/VERSION/", &format!("/studio/{version}/"))
}

/// The file of this name.
pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_compiled_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/studio/page");
        let on_disk: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut known: BTreeSet<String> =
            ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        known.insert("index.html".into());
        assert_eq!(on_disk, known);
    }

    #[test]
    fn modules_import_only_files_that_exist() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == JS) {
            for line in asset.text.lines().filter(|line| line.starts_with("import")) {
                let name = line
                    .split("\"./")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next());
                assert!(
                    name.is_some_and(|name| find(name).is_some()),
                    "{}: {line}",
                    asset.name
                );
            }
        }
    }

    #[test]
    fn the_page_names_its_files_by_version_and_has_nothing_inline() {
        let page = page("0123");
        assert!(!page.contains("VERSION"));
        for part in page.split("/studio/0123/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(find(name).is_some(), "{name}");
        }
        assert!(!page.contains("<style"));
        assert!(!page.contains(" style="));
        assert!(!page.contains("javascript:"));
        // One script, which has a source.
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<script type=\"module\" src="));
        for event in [" onclick", " onload", " onerror", " onsubmit"] {
            assert!(!page.contains(event), "{event}");
        }
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere_or_parses_html() {
        for asset in ASSETS {
            for forbidden in [
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "localStorage",
                "document.cookie",
            ] {
                assert!(
                    !asset.text.contains(forbidden),
                    "{} has {forbidden}",
                    asset.name
                );
            }
        }
    }

    #[test]
    fn the_whole_page_is_small() {
        let bytes: usize = PAGE.len() + ASSETS.iter().map(|asset| asset.text.len()).sum::<usize>();
        assert!(bytes < 100_000, "{bytes} bytes");
    }
}
