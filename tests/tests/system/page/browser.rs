//! Debian's Chromium without a screen, told what to do over its DevTools pipe: messages are JSON that end with a zero byte.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use perigee_testkit::PATIENCE;
use serde_json::{Value, json};

/// A browser with one page open; killed when dropped.
pub(super) struct Browser {
    process: Child,
    commands: File,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// Errors of scripts, and what the page's own policy forbade.
    pub(super) complaints: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Browser {
    /// Opens `url`; `folder` is for the browser's own files.
    pub(super) fn open(folder: &Path, url: &str) -> Self {
        let (commands, messages) = (folder.join("commands"), folder.join("messages"));
        assert!(Command::new("mkfifo").args([&commands, &messages]).status().unwrap().success());
        // Without the sandbox it also runs as root in a container; it sees nothing but this demo.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                      --disable-background-networking --hide-scrollbars --remote-debugging-pipe --user-data-dir=\"$0\" \
                      about:blank 3<\"$1\" 4>\"$2\"";
        let process = Command::new("sh")
            .args(["-c", script])
            .args([&folder.join("profile"), &commands, &messages])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the order of the script: each opening waits for the other end's.
        let commands = fs::OpenOptions::new().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(messages).unwrap());
        let (told, messages) = channel();
        thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                if told.send(serde_json::from_slice(&message).unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { process, commands, messages, session: None, last: 0, complaints: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.ask("Runtime.enable", json!({}));
        browser.ask("Log.enable", json!({}));
        browser.ask("Page.enable", json!({}));
        browser.go(url);
        browser
    }

    /// Opens another page.
    pub(super) fn go(&mut self, url: &str) {
        self.ask("Page.navigate", json!({ "url": url }));
    }

    /// One command of the DevTools protocol, and its result.
    pub(super) fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.answer(method, parameters);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn answer(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {method}"));
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(answer["params"].to_string()),
                Some("Log.entryAdded") if answer["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(answer["params"]["entry"]["text"].to_string());
                }
                _ => {}
            }
            if answer["id"] == self.last {
                return answer;
            }
        }
    }

    /// What an expression of JavaScript gives in the page.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.try_evaluate(expression);
        assert!(answer["error"].is_null() && answer["result"]["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["result"]["value"].clone()
    }

    fn try_evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        self.answer("Runtime.evaluate", asked)
    }

    /// Waits until an expression is true. On the way to another page there may be nothing to ask.
    pub(super) fn wait(&mut self, expression: &str) {
        let began = Instant::now();
        while self.try_evaluate(&format!("Boolean({expression})"))["result"]["result"]["value"] != true {
            let text = if began.elapsed() > PATIENCE { self.evaluate("document.body.innerText") } else { Value::Null };
            assert!(text.is_null(), "never true: {expression}\n{text}\n{:?}", self.complaints);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shows the page so wide, and in that scheme: `light` or `dark`.
    pub(super) fn dress(&mut self, width: u32, height: u32, scheme: &str) {
        let is_phone = width < 700;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", scheme);
    }

    /// Presses a key that has that code.
    pub(super) fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "char", "keyUp"] {
            // A tab is no character; what Enter does on a button comes of its character.
            if kind == "char" && key != "Enter" {
                continue;
            }
            let text = if kind == "char" { "\r" } else { "" };
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// The window as a PNG, in base64.
    pub(super) fn picture(&mut self) -> String {
        let picture = self.ask("Page.captureScreenshot", json!({ "format": "png", "optimizeForSpeed": false }));
        picture["data"].as_str().unwrap_or_default().to_owned()
    }
}
