-- For lists of the rows in some states. Only a query that asks for `length(state) > 0` uses it: in a table that nobody has
-- analysed, a plan that looks up rows by operation and position would use it, too, and read every entry of the operation.
CREATE INDEX operation_items_of_state ON operation_items (operation, state, position) WHERE length(state) > 0;
DROP INDEX operation_items_by_state;
