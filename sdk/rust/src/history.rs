//! Pages of history, joined: an answer has only so many bytes.

use parlance_proto::client::v1::{Direction, HistoryRequest, HistoryResponse};
use parlance_proto::limits::HISTORY_EVENTS_DEFAULT;

use crate::{Client, ClientError};

impl Client {
    /// As many events as the request wants, in ascending order, with as many answers as that takes.
    ///
    /// # Errors
    /// As for [`Client::request`]; nothing is returned of what was read before.
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryResponse, ClientError> {
        let wanted = match request.limit {
            0 => HISTORY_EVENTS_DEFAULT,
            wanted => wanted,
        };
        let forward = request.direction() == Direction::Forward;
        let mut joined = self.request(request.clone()).await?;
        while joined.more {
            let have = u32::try_from(joined.events.len()).unwrap_or(u32::MAX);
            let (Some(first), Some(last)) = (joined.events.first(), joined.events.last()) else {
                break;
            };
            if have >= wanted {
                break;
            }
            let next = HistoryRequest {
                start_seq: if forward { last.seq + 1 } else { first.seq - 1 },
                limit: wanted - have,
                ..request.clone()
            };
            let mut page = self.request(next).await?;
            if page.events.is_empty() {
                break;
            }
            if forward {
                joined.events.append(&mut page.events);
            } else {
                page.events.append(&mut joined.events);
                joined.events = page.events;
            }
            (joined.head_seq, joined.more) = (page.head_seq, page.more);
        }
        Ok(joined)
    }
}
