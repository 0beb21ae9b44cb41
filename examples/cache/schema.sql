CREATE TABLE users (
    id   bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL
);
INSERT INTO users (name) VALUES ('ada'), ('bob');
