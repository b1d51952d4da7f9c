-- Lists of candidates, newest first. `connection` is in the index so that a list of one connection skips the others
-- without reading them. Most candidates are registered; the few in any other state have an index of their own.
CREATE INDEX candidates_of_tenant ON candidates (tenant, id, connection);
CREATE INDEX candidates_by_state ON candidates (tenant, state, id) WHERE state <> 'registered';

-- `group_index` is the keyed value of a candidate's group, empty without one. None in candidates of an earlier version: a
-- background pass adds it.
ALTER TABLE candidates ADD COLUMN group_index bytea;
CREATE INDEX candidates_of_group ON candidates (tenant, group_index, id) WHERE octet_length(group_index) > 0;
CREATE INDEX candidates_without_group_index ON candidates (id) WHERE group_index IS NULL;
