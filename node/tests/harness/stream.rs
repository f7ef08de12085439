//! Reading a stream of lines.

use std::time::Duration;

use serde_json::Value;

use super::Client;

/// The lines of one answer, as they come.
pub struct Lines {
    answer: reqwest::Response,
    waiting: Vec<u8>,
}

impl Lines {
    /// Opens a stream; an answer other than 200 is an error with its status and text.
    pub async fn open(client: &Client, url: &str) -> Result<Lines, String> {
        let answer = client
            .streaming
            .get(url)
            .send()
            .await
            .map_err(|error| format!("{url}: {error:?}"))?;
        if answer.status().as_u16() != 200 {
            return Err(format!(
                "{url}: {} {}",
                answer.status(),
                answer.text().await.unwrap_or_default()
            ));
        }
        Ok(Lines {
            answer,
            waiting: Vec::new(),
        })
    }

    /// The next line; `Ok(None)` when none came in time; an error when the stream broke off or ended.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Value>, String> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&line)));
            }
            match tokio::time::timeout(patience, self.answer.chunk()).await {
                Err(_) => return Ok(None),
                Ok(Ok(Some(chunk))) => self.waiting.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Err("the stream ended".to_owned()),
                Ok(Err(error)) => return Err(format!("the stream broke off: {error}")),
            }
        }
    }
}
