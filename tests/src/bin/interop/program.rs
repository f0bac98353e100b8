use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Result;

/// How long a program may take for a line. Minting makes a dozen RSA keys first, perhaps on a busy machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a program may take to end once its input has.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A program that is spoken to line by line, in JSON, and that ends when its standard input does: so none outlives this
/// process, however that ends.
pub(crate) struct Program {
    name: String,
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        Ok(Self { name: name.to_owned(), process, input, output })
    }

    /// The next line as it is.
    pub(crate) async fn text(&mut self) -> Result<String> {
        let line = tokio::time::timeout(LINE_TIMEOUT, self.output.next_line()).await;
        let line = line.map_err(|_| format!("{} says nothing for {LINE_TIMEOUT:?}", self.name))?;
        Ok(line?.ok_or_else(|| format!("{} ended before it answered", self.name))?)
    }

    pub(crate) async fn line<T: DeserializeOwned>(&mut self) -> Result<T> {
        let text = self.text().await?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{} says what is not expected: {error}", self.name))?)
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, question: &Value) -> Result<T> {
        let input = self.input.as_mut().ok_or("no standard input")?;
        input.write_all(format!("{question}\n").as_bytes()).await?;
        self.line().await
    }

    /// Kills it as an accident would: it closes nothing, and says nothing more.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Closes its input, and waits until it has ended well.
    pub(crate) async fn finish(mut self) -> Result<()> {
        drop(self.input.take());
        let Ok(status) = tokio::time::timeout(END_TIMEOUT, self.process.wait()).await else {
            self.process.kill().await?;
            return Err(format!("{} does not end", self.name).into());
        };
        let status = status?;
        if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", self.name).into()) }
    }

    /// Closes its input, returns what it says to that, and waits until it has ended well.
    pub(crate) async fn farewell<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.input.take());
        let last = self.line().await?;
        self.finish().await?;
        Ok(last)
    }
}
