COMMENT ON TABLE deliveries IS 'Every authentic webhook request with what became of it; only reading it again changes that';
