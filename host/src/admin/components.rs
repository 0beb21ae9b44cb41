//! `/v1/components`: uploads.
//!
//! In: a component, raw or in a form. Out: what is known of it.

use warp::http::StatusCode;
use warp::reply::Response;

use super::body::Body;
use super::form;
use super::query::Query;
use super::refusal::Refusal;
use super::{State, wire};
use crate::limits::{LARGE_PLUGIN_BYTES_MAX, PLUGIN_BYTES_MAX, UPLOAD_FORM_BYTES_MAX};
use crate::policy::Profile;

/// Takes a component.
pub(super) async fn upload(
    state: &State,
    by: &str,
    raw_query: &str,
    content_type: &str,
    body: Body,
) -> Result<Response, Refusal> {
    let query = Query::of(raw_query, &["profile"])?;
    let profile = query.text("profile").map(wire::profile_of).transpose()?.unwrap_or_default();
    let (bytes_max, remedy) = match profile {
        Profile::Small => (
            PLUGIN_BYTES_MAX,
            "build it in release mode, stripped, or ask for the profile `large` if it brings a runtime",
        ),
        Profile::Large => (LARGE_PLUGIN_BYTES_MAX, "make it smaller"),
    };
    let boundary = form::boundary(content_type).transpose().map_err(|e| Refusal::invalid(e.to_string()))?;
    let around = if boundary.is_some() { UPLOAD_FORM_BYTES_MAX } else { 0 };
    let too_large = format!("the component has more than {bytes_max} bytes: {remedy}");
    let Ok(_place) = state.uploads.try_acquire() else {
        let message = "other uploads are under way: try again when they are done";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message));
    };
    let body = body.read(bytes_max + around, &too_large).await?;
    let wasm = match boundary {
        Some(boundary) => {
            form::component(&body, boundary).map_err(|error| Refusal::invalid(error.to_string()))?
        }
        None => body,
    };
    if wasm.len() > bytes_max {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", too_large));
    }
    let component = state.parts.deployer.upload(by, wasm, profile).await?;
    Ok(wire::json(&wire::component(&component)))
}

/// What was uploaded, newest first.
pub(super) async fn list(state: &State, raw_query: &str) -> Result<Response, Refusal> {
    Query::of(raw_query, &[])?;
    let components = state.parts.deployer.components().await?;
    let components: Vec<_> = components.iter().map(wire::component).collect();
    Ok(wire::json(&serde_json::json!({"components": components})))
}
