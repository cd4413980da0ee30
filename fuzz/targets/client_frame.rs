//! Client frames in both formats: what decodes must encode to something that decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_gateway::{Format, decode_client_frame};
use prost::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = decode_client_frame(Format::Binary, data) {
        let again = decode_client_frame(Format::Binary, &frame.encode_to_vec());
        assert_eq!(again.ok(), Some(frame));
    }
    if let Ok(frame) = decode_client_frame(Format::Json, data)
        && let Ok(text) = serde_json::to_vec(&frame)
    {
        let again = decode_client_frame(Format::Json, &text);
        assert_eq!(again.ok(), Some(frame));
    }
});
