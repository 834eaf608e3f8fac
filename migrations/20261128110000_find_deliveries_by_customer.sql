-- A Balance Activation names no profile, only its customer. Without this table nobody would find it, and no erasure either.
-- A table beside `deliveries`, and not a column of it: such webhooks are rare, and an index on a large table would keep webhooks waiting.
CREATE TABLE customer_deliveries (
    uid text COLLATE "C" NOT NULL,
    provider text NOT NULL,
    delivery_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (uid, provider, delivery_id)
);
CREATE INDEX customer_deliveries_age ON customer_deliveries (received_at);

COMMENT ON TABLE customer_deliveries IS 'Deliveries that name no profile, only a customer of the provider';
COMMENT ON COLUMN customer_deliveries.uid IS 'the customer, as the provider names them; profiles.uid has the same after a registration';
COMMENT ON COLUMN customer_deliveries.provider IS 'slug of the provider whose customer this is';
COMMENT ON COLUMN customer_deliveries.delivery_id IS 'the id in deliveries';
COMMENT ON COLUMN customer_deliveries.received_at IS 'the time in deliveries, which chooses the partition';
