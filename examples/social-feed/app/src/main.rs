//! The application of the example: it serves a page, and writes what people do there as rows into PostgreSQL.
//!
//! In: `DATABASE_URL`, `TWOHOP_URL` (where pages find the timelines) and `LISTEN`, each with a default for one machine.
//! Out: a line with the page's address once it is there.
//!
//! There is no code for feeds here, no cache and no queue: it inserts, updates and deletes rows. What each user sees of
//! that is read from Twohop by the page itself.

mod page;
mod rows;

use std::env;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::net::TcpListener;
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::{Reply, Response, json, with_status};

use rows::Rows;

/// A post has 500 characters at most.
const BODY_BYTES_MAX: u64 = 8 * 1_024;

#[derive(Deserialize)]
struct NewPost {
    author: String,
    body: String,
}

#[derive(Deserialize)]
struct NewBody {
    body: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let database = setting("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres");
    let twohop = setting("TWOHOP_URL", "http://127.0.0.1:8080");
    let rows = Arc::new(Rows::connect(&database).await?);
    let listener = TcpListener::bind(setting("LISTEN", "127.0.0.1:8082")).await.context("cannot listen")?;
    println!("the page: http://{}/", listener.local_addr()?);
    warp::serve(page::files(twohop).or(writes(rows))).incoming(listener).run().await;
    Ok(())
}

fn setting(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// What people do.
fn writes(rows: Arc<Rows>) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone {
    let rows = warp::any().map(move || rows.clone());
    let limit = warp::body::content_length_limit(BODY_BYTES_MAX);
    let people = warp::path!("people").and(warp::get()).and(rows.clone());
    let people = people.then(async |rows: Arc<Rows>| match rows.people().await {
        Ok(people) => json(&people).into_response(),
        Err(error) => failed(&error),
    });
    let post = warp::path!("posts").and(warp::post()).and(limit).and(warp::body::json()).and(rows.clone());
    let post =
        post.then(async |post: NewPost, rows: Arc<Rows>| done(rows.post(&post.author, &post.body).await));
    let edit =
        warp::path!("posts" / i64).and(warp::put()).and(limit).and(warp::body::json()).and(rows.clone());
    let edit = edit.then(async |id, edit: NewBody, rows: Arc<Rows>| done(rows.edit(id, &edit.body).await));
    let delete = warp::path!("posts" / i64).and(warp::delete()).and(rows.clone());
    let delete = delete.then(async |id, rows: Arc<Rows>| done(rows.delete(id).await));
    let follow = warp::path!("follows" / String / String).and(warp::put()).and(rows.clone());
    let follow = follow
        .then(async |one: String, other: String, rows: Arc<Rows>| done(rows.follow(&one, &other).await));
    let unfollow = warp::path!("follows" / String / String).and(warp::delete()).and(rows);
    let unfollow = unfollow
        .then(async |one: String, other: String, rows: Arc<Rows>| done(rows.unfollow(&one, &other).await));
    people.or(post).unify().or(edit).unify().or(delete).unify().or(follow).unify().or(unfollow).unify()
}

fn done(written: Result<()>) -> Response {
    match written {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> Response {
    eprintln!("{error:#}");
    with_status(format!("{error:#}"), StatusCode::UNPROCESSABLE_ENTITY).into_response()
}
