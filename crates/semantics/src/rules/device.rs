//! The class of a client's device, guessed from its User-Agent: coarse on purpose, since every class is a copy of its own.

use std::fmt;

/// What a client's User-Agent says of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceClass {
    /// Everything that says nothing else.
    Desktop,
    /// Phones.
    Mobile,
    /// Tablets and readers.
    Tablet,
    /// Crawlers, checkers and libraries that say so.
    Bot,
}

/// Of a User-Agent, so much is looked at.
const USER_AGENT_BYTES_MAX: usize = 512;
const BOTS: [&str; 8] = ["bot", "crawl", "spider", "slurp", "curl/", "wget/", "python-", "facebookexternalhit"];
const TABLETS: [&str; 6] = ["ipad", "tablet", "kindle", "silk/", "playbook", "nexus 7"];
const MOBILES: [&str; 7] = ["mobi", "iphone", "ipod", "windows phone", "blackberry", "opera mini", "bb10"];

impl DeviceClass {
    /// By the first of: bot, tablet, mobile, Android without `Mobile` (a tablet), desktop. In any case of letters.
    pub fn of(user_agent: &[u8]) -> Self {
        let text = user_agent.get(..USER_AGENT_BYTES_MAX).unwrap_or(user_agent);
        let says = |words: &[&str]| words.iter().any(|word| contains(text, word.as_bytes()));
        if says(&BOTS) {
            Self::Bot
        } else if says(&TABLETS) {
            Self::Tablet
        } else if says(&MOBILES) {
            Self::Mobile
        } else if says(&["android"]) {
            Self::Tablet
        } else {
            Self::Desktop
        }
    }

    /// The word in X-Device-Class and in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Bot => "bot",
        }
    }

    /// From its word, as a peer of the fleet says it.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        [Self::Desktop, Self::Mobile, Self::Tablet, Self::Bot]
            .into_iter()
            .find(|class| class.as_str().as_bytes() == word)
    }
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let check =
            |agent: &str, expected: DeviceClass| assert_eq!(DeviceClass::of(agent.as_bytes()), expected, "{agent}");
        check("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", DeviceClass::Desktop);
        check("", DeviceClass::Desktop);
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
            DeviceClass::Mobile,
        );
        check("Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/126.0 Mobile Safari/537.36", DeviceClass::Mobile);
        check("Mozilla/5.0 (Linux; Android 13; SM-X906C) Chrome/126.0 Safari/537.36", DeviceClass::Tablet);
        check("Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) Mobile/15E148", DeviceClass::Tablet);
        check("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", DeviceClass::Bot);
        check("CURL/8.5.0", DeviceClass::Bot);
        check(&format!("{}iphone", "x".repeat(USER_AGENT_BYTES_MAX - 6)), DeviceClass::Mobile);
        check(&format!("{}iphone", "x".repeat(USER_AGENT_BYTES_MAX - 5)), DeviceClass::Desktop);
    }

    #[test]
    fn words() {
        for class in [DeviceClass::Desktop, DeviceClass::Mobile, DeviceClass::Tablet, DeviceClass::Bot] {
            assert_eq!(DeviceClass::from_word(class.as_str().as_bytes()), Some(class));
        }
        assert_eq!(DeviceClass::from_word(b"phone"), None);
    }
}
