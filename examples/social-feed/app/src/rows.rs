//! What people do, as rows of `schema.sql`.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

/// The database.
pub(crate) struct Rows(Client);

/// Somebody who is shown on the page.
#[derive(Serialize)]
pub(crate) struct Person {
    name: String,
    followers: i64,
    follows: Vec<String>,
}

impl Rows {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let (client, connection) =
            tokio_postgres::connect(url, NoTls).await.context("cannot reach PostgreSQL at DATABASE_URL")?;
        // What breaks it shows at the next statement.
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// All but the fans.
    pub(crate) async fn people(&self) -> Result<Vec<Person>> {
        let people = "SELECT name, (SELECT count(*) FROM follows WHERE followee = name AND follower <> name), \
                          ARRAY(SELECT followee FROM follows WHERE follower = name) \
                      FROM users WHERE name NOT LIKE 'fan-%' ORDER BY name";
        let rows = self.0.query(people, &[]).await.context("cannot list people")?;
        let person = |row: &tokio_postgres::Row| Person {
            name: row.get(0),
            followers: row.get(1),
            follows: row.get(2),
        };
        Ok(rows.iter().map(person).collect())
    }

    pub(crate) async fn post(&self, author: &str, body: &str) -> Result<()> {
        self.write("INSERT INTO posts (author, body) VALUES ($1, $2)", &[&author, &body]).await
    }

    pub(crate) async fn edit(&self, id: i64, body: &str) -> Result<()> {
        self.write("UPDATE posts SET body = $2 WHERE id = $1", &[&id, &body]).await
    }

    pub(crate) async fn delete(&self, id: i64) -> Result<()> {
        self.write("DELETE FROM posts WHERE id = $1", &[&id]).await
    }

    pub(crate) async fn follow(&self, follower: &str, followee: &str) -> Result<()> {
        self.write("INSERT INTO follows VALUES ($1, $2)", &[&follower, &followee]).await
    }

    pub(crate) async fn unfollow(&self, follower: &str, followee: &str) -> Result<()> {
        self.write("DELETE FROM follows WHERE follower = $1 AND followee = $2", &[&follower, &followee]).await
    }

    async fn write(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let count = self.0.execute(statement, values).await.context("PostgreSQL refuses")?;
        ensure!(count == 1, "there is no such row");
        Ok(())
    }
}
