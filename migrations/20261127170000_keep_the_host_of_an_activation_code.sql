-- Which server installs a profile, beside the sealed code that names it, so that failures of one server can be recognised.
ALTER TABLE install_credentials ADD COLUMN host text;
COMMENT ON COLUMN install_credentials.host IS 'SM-DP+ address of the activation code, in lower case; null: no code, or registered before this column';
