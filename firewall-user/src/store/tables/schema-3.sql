-- What the other end was called, as it was observed, and how that is known (a number: `PastSocket::name`).
ALTER TABLE past_sockets ADD COLUMN name INTEGER;
ALTER TABLE past_sockets ADD COLUMN name_source INTEGER;

CREATE INDEX past_sockets_name ON past_sockets (name) WHERE name IS NOT NULL;
