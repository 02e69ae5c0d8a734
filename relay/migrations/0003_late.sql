-- What comes late, or twice.

ALTER TABLE sessions ADD COLUMN signed_in INTEGER;   -- when the provider issued the token that started it

ALTER TABLE seen_tokens ADD COLUMN outcome TEXT;     -- what came of it, until the audit log has it
