//! The calls that an example's documentation shows.

use crate::client::Client;
use crate::running::Running;

/// Makes the calls that an example's documentation shows, `curl …   # status` in a line each, to the example as it starts
/// without arguments, with the tokens that it prints; and checks that the answers have the status that stands behind each. Of
/// an answer that curl is told to leave after some time (`-m`), the head will do.
///
/// # Panics
/// If one has not, if there are fewer than two, if no line before them says where `$TOKEN` comes from, or if one uses what this
/// does not know of curl.
pub async fn documented_calls_of(name: &str, source: &str) {
    documented_calls_to(&Running::start(name, &[]), source).await;
}

/// The same, to an example that the test has started. Lines `NAME=…` stand for the tokens that it has printed, in their order.
///
/// # Panics
/// As [`documented_calls_of`].
pub async fn documented_calls_to(example: &Running, source: &str) {
    let mut calls = 0;
    let (mut base, mut tokens) = ("", Vec::new());
    let mut printed = example.tokens();
    for line in source.lines() {
        if let Some(url) = line.strip_prefix("//! URL=") {
            base = url;
        } else if let Some((name, "…")) = line.strip_prefix("//! ").and_then(variable) {
            tokens.push((format!("${name}"), printed.next().expect("a token for each name")));
        }
        let Some(line) = line.strip_prefix("//! curl ") else { continue };
        let (command, comment) = line.split_once(" # ").expect("a status in a comment behind the command");
        let expected: u16 = comment.split([' ', ',', ';']).next().unwrap_or_default().parse().expect("a status");

        let command = command.replace("$URL", base).replace("127.0.0.1:3000", &example.address().to_string());
        let command = tokens.iter().fold(command, |command, (name, token)| command.replace(name, token));
        assert!(!tokens.is_empty() && !command.contains('$'), "a line NAME=… before the first call: {command}");
        let (mut client, mut method, mut url, mut headers) = (Client::http1(), None, None, Vec::new());
        let mut endless = false;
        let mut words = words(&command).into_iter();
        while let Some(word) = words.next() {
            match &*word {
                "-i" | "-N" => {}
                "--http2-prior-knowledge" => client = Client::http2(),
                "-m" => endless = words.next().is_some(),
                "-X" => method = words.next(),
                "-H" => headers.extend(words.next()),
                word => {
                    assert!(word.starts_with("http://") && url.is_none(), "an option that is not known: {word}");
                    url = Some(word.to_owned());
                }
            }
        }
        let mut request = client.request(method.as_deref().unwrap_or("GET"), &url.expect("a URL"));
        for header in headers {
            let (field, value) = header.split_once(": ").expect("a header field");
            request = request.header(field, value);
        }
        let status = if endless {
            request.send().await.expect("an answer").status().as_u16()
        } else {
            client.send(request).await.status
        };
        assert_eq!(status, expected, "{line}");
        calls += 1;
    }
    assert!(calls >= 2, "{calls} calls are documented");
}

/// Name and first word of the value, of an assignment to a variable of the shell.
fn variable(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    is_name.then_some((name, value.split_whitespace().next().unwrap_or_default()))
}

/// The words of a shell's command line, as far as double quotes go.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nth, part) in line.split('"').enumerate() {
        match nth % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}
