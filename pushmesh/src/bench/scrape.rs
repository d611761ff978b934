//! A service's counters, read at its admin port.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use pushmesh_protocol::metric::ack_retry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const WITHIN: Duration = Duration::from_secs(10);

/// What a service counts at one moment.
#[derive(Debug, Clone)]
pub struct Counters(String);

impl Counters {
    pub async fn read(admin: SocketAddr) -> anyhow::Result<Self> {
        let text = timeout(WITHIN, get(admin)).await.with_context(|| format!("{admin}/metrics is silent"))?;
        let text = text.with_context(|| format!("can't read {admin}/metrics"))?;
        if !text.starts_with("HTTP/1.1 200") {
            bail!("{admin}/metrics answered {}", text.lines().next().unwrap_or_default());
        }
        Ok(Self(text))
    }

    /// The sum of a counter over its labels that hold `label`, such as `outcome="acked"`; 0 where it is not told.
    pub fn sum(&self, name: &str, label: &str) -> u64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let of_name = labels.is_empty() || labels.starts_with('{');
            (of_name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        };
        self.0.lines().filter_map(value).sum::<f64>() as u64
    }
}

/// What has become of pushes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled {
    /// By the client's acknowledgement.
    pub acked: u64,
    /// In any way.
    pub over: u64,
    /// Transmissions beyond a push's first.
    pub again: u64,
}

impl Settled {
    pub async fn read(ack_retry_admin: SocketAddr) -> anyhow::Result<Self> {
        let counters = Counters::read(ack_retry_admin).await?;
        let (outcomes, transmissions) = (ack_retry::OUTCOMES.name, ack_retry::TRANSMISSIONS.name);
        Ok(Self {
            acked: counters.sum(outcomes, "outcome=\"acked\""),
            over: counters.sum(outcomes, ""),
            again: counters.sum(transmissions, "") - counters.sum(transmissions, "attempt=\"1\""),
        })
    }

    pub fn since(self, earlier: Self) -> Self {
        Self { acked: self.acked - earlier.acked, over: self.over - earlier.over, again: self.again - earlier.again }
    }
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).await?;
    // HTTP/1.0 is answered as such by some.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.strip_prefix("HTTP/1.0") {
        Some(rest) => format!("HTTP/1.1{rest}"),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let text =
            "# HELP a_total x\na_total{of=\"x\"} 3\na_total{of=\"y\"} 4\na_total_more{of=\"x\"} 100\nb_total 5\n";
        let counters = Counters(text.to_owned());
        assert_eq!((counters.sum("a_total", ""), counters.sum("a_total", "of=\"y\"")), (7, 4));
        assert_eq!((counters.sum("b_total", ""), counters.sum("c_total", "")), (5, 0));
    }
}
