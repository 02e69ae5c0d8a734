-- When the person of a session last proved themself to the provider.

ALTER TABLE sessions ADD COLUMN proved INTEGER;      -- absent: when it started, for all that is known
